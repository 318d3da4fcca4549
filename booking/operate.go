package booking

import "regexp"

var slugPattern = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

func (s *Server) registerOperate() {}
