package booking

func (s *Server) registerOrderOperate() {}
