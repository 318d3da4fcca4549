package gateway

import (
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epoll tells which of a shard's sockets have something to read, or have ended. It is
// asked at each tick and wakes nobody: what clients send here, pongs and goodbyes, can
// wait for that.
//
// Who owns a descriptor: newOutbox makes one of its own from a connection (descriptor)
// and closes the connection, so Go's poller knows nothing of it. From then on the outbox
// owns it, and the outbox belongs to one goroutine: the handler's, which hands it to the
// shard's with shard.add. Only that goroutine reads, writes and closes it, once, in
// shard.bury, which frees the seat in the same step. So no number is used after its close,
// when the kernel may have given it to another connection. A close takes it out of epoll.
// News are about seats, not descriptors: news that came with those of a socket which has
// just been buried find an empty seat; seats are given away only between two ticks.
type epoll struct {
	fd     int
	events [128]unix.EpollEvent
}

func newEpoll() (*epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	return &epoll{fd: fd}, nil
}

func (e *epoll) close() { _ = unix.Close(e.fd) }

// add watches a descriptor until it is closed. at comes back with its news.
func (e *epoll) add(fd, at int) error {
	err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(at)})
	if err != nil {
		return fmt.Errorf("watch a socket: %w", err)
	}
	return nil
}

// ready tells whose news there are, about as many as most. Those whose news are not all
// read come again behind the others.
func (e *epoll) ready(most int, visit func(at int)) {
	for n := len(e.events); n == len(e.events) && most > 0; most -= n {
		var err error
		if n, err = unix.EpollWait(e.fd, e.events[:], 0); err != nil {
			return // interrupted: the next tick asks again
		}
		for _, event := range e.events[:n] {
			visit(int(event.Fd))
		}
	}
}

// descriptor is another descriptor of conn, which Go's own poller does not know; -1
// where there is none.
func descriptor(conn net.Conn) int {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return -1
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1
	}
	fd := -1
	var fault error
	err = raw.Control(func(own uintptr) { fd, fault = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil || fault != nil {
		return -1
	}
	return fd
}

// send gives b to the kernel, and receive takes what is there; neither ever waits. So they
// are raw: Go's scheduler looks after every other system call in case that it lasts, which
// costs the more the busier the machine is. A socket's own calls also spare what write(2) and
// read(2) do for files.
func send(fd int, b []byte) (int, error) {
	return transfer(unix.SYS_SENDTO, fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func receive(fd int, b []byte) (int, error) {
	return transfer(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT)
}

func transfer(call uintptr, fd int, b []byte, flags uintptr) (int, error) {
	n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
