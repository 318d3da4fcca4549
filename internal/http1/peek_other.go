//go:build !unix

package http1

const canPeek = false

func leaves(Conn) bool { return false }
