//go:build !linux

package gateway

import (
	"errors"
	"net"
)

// epoll is Linux' own: elsewhere every socket has a goroutine that reads.
type epoll struct{}

func newEpoll() (*epoll, error) { return nil, errors.ErrUnsupported }

func (*epoll) close() {}

func (*epoll) add(int, int) error { return errors.ErrUnsupported }

func (*epoll) ready(int, func(at int)) {}

func descriptor(net.Conn) int { return -1 }

func send(int, []byte) (int, error) { return 0, errors.ErrUnsupported }

func receive(int, []byte) (int, error) { return 0, errors.ErrUnsupported }
