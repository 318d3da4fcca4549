package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// drive is run in a leaner way: a thread for each processor waits for all of its connections at once, reads an answer by
// one call and takes only its length and status from it. Before it waits it lets others have the processor, so that more
// than one answer is there when it goes on. Its calls are raw, because Go's scheduler looks after every other one.
func (l load) drive(ctx context.Context, address string, d time.Duration) (pace, error) {
	threads := min(runtime.NumCPU(), l.connections)
	answers := make([]int64, threads)
	start := time.Now()
	var group errgroup.Group
	for i := range threads {
		group.Go(func() (err error) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			answers[i], err = l.driveSome(ctx, address, (l.connections+i)/threads, start.Add(d))
			return err
		})
	}
	err := group.Wait()
	p := pace{took: time.Since(start)}
	for _, n := range answers {
		p.answers += n
	}
	return p, err
}

const (
	answerRoom = 16 << 10             // no answer is longer
	lastAnswer = time.Minute          // after the end
	standstill = 5 * time.Millisecond // of all other goroutines, at most
)

// A line is one connection of drive's.
type line struct {
	fd      int
	out, in []byte
}

// driveSome drives so many connections until end, and reads the answers to all that was asked by then.
func (l load) driveSome(ctx context.Context, address string, connections int, end time.Time) (answers int64, err error) {
	ready, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(ready)
	lines := make([]line, connections)
	for i := range lines {
		c := &lines[i]
		if c.fd, err = connect(address); err != nil {
			return 0, err
		}
		defer unix.Close(c.fd)
		c.in = make([]byte, 0, answerRoom)
		if err := unix.EpollCtl(ready, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return 0, err
		}
		if err := l.send(c, address); err != nil {
			return 0, err
		}
	}
	events := make([]unix.EpollEvent, connections)
	for open := connections; open > 0; {
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		n, err := waitRaw(ready, events)
		if err != nil {
			return answers, err
		}
		if n == 0 {
			runtime.Gosched()
		}
		now := time.Now()
		over := !now.Before(end) || ctx.Err() != nil
		if now.After(end.Add(lastAnswer)) {
			return answers, fmt.Errorf("%d requests were not answered", open)
		}
		for _, event := range events[:n] {
			c := &lines[event.Fd]
			whole, err := l.hear(c)
			switch {
			case err != nil:
				return answers, err
			case !whole:
				continue
			}
			answers++
			if over {
				open--
			} else if err := l.send(c, address); err != nil {
				return answers, err
			}
		}
	}
	return answers, nil
}

// send writes the next request.
func (l load) send(c *line, address string) error {
	c.in, c.out = c.in[:0], l.write(c.out[:0], l.sent.Add(1), address)
	n, err := transferRaw(unix.SYS_SENDTO, c.fd, c.out, unix.MSG_NOSIGNAL)
	if err == nil && n < len(c.out) {
		err = io.ErrShortWrite
	}
	return err
}

// hear reads what has come, and tells whether it is a whole answer, which has to be of the wanted status.
func (l load) hear(c *line) (whole bool, err error) {
	n, err := transferRaw(unix.SYS_RECVFROM, c.fd, c.in[len(c.in):cap(c.in)], unix.MSG_DONTWAIT)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, err
	case n == 0:
		return false, io.ErrUnexpectedEOF
	}
	c.in = c.in[:len(c.in)+n]
	size, err := answerSize(c.in, l.status)
	if err == nil && (size > cap(c.in) || size > 0 && size < len(c.in)) {
		err = fmt.Errorf("an answer of %d bytes, of which there are %d", size, len(c.in))
	}
	return size == len(c.in), err
}

func transferRaw(call uintptr, fd int, b []byte, flags uintptr) (int, error) {
	n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func waitRaw(ready int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ready), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)),
		uintptr(standstill.Milliseconds()), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

// connect opens a connection that Go's own poller does not know.
func connect(address string) (fd int, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return -1, err
	}
	defer conn.Close() // the descriptor is another one of the same connection
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	var fault error
	err = raw.Control(func(own uintptr) { fd, fault = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, fault)
}
