package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	floodTick  = time.Millisecond // a bot's request is sent at the first tick after its time
	listenEach = 4                // requests: then a bot reads what was answered meanwhile
	mostUnread = 64 << 10         // bytes of answers that a bot reads at once
)

// A flooder floods from many addresses by one loop that never waits for the gateway: it sends whatever is due each
// tick, and reads answers in between, several at once. A goroutine and a wake-up for each would take this machine as
// much time as the gateway takes to answer; the fifty machines for which it stands would take it none.
type flooder struct {
	flooding
	*requests
	to            unix.SockaddrInet4
	said          *json.Encoder
	out           []byte // a request
	in            []byte // what is read at once
	sent          int
	lost, unheard int
	answers       [600]int // by status
	late          []int    // by milliseconds
}

// A flooding bot has one connection for as long as that lasts.
type floodingBot struct {
	address string
	from    unix.SockaddrInet4
	fd      int // −1: none
	due     time.Time
	n       int // requests so far
	rng     *rand.ChaCha8
	part    []byte // of an answer
}

// flood is the whole life of a process that floods. It sends until in ends.
func flood(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	f := &flooder{said: json.NewEncoder(out), in: make([]byte, mostUnread), late: make([]int, lateSpan)}
	if err := json.Unmarshal(first, &f.flooding); err != nil {
		return err
	}
	f.requests = newRequests(f.flooding)
	to, err := net.ResolveTCPAddr("tcp4", f.Gateway)
	if err != nil {
		return fmt.Errorf("find the gateway: %w", err)
	}
	f.to = unix.SockaddrInet4{Port: to.Port, Addr: to.AddrPort().Addr().Unmap().As4()}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, lines) // its end is all that counts
		stop()
	}()
	started := time.Now()
	bots, err := f.bots(started)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		for _, b := range bots {
			if err := f.play(b, time.Now()); err != nil {
				return err
			}
		}
		tick := unix.NsecToTimespec(int64(floodTick))
		_ = unix.Nanosleep(&tick, nil) // woken early it looks once more
	}
	last := flooded{Sent: f.sent, Seconds: time.Since(started).Seconds(), LateMS: within(f.late), Answers: map[string]int{}}
	for _, b := range bots {
		if err := f.listen(b); err != nil {
			return err
		}
		f.close(b)
	}
	for status, n := range f.answers {
		if n > 0 {
			last.Answers[strconv.Itoa(status)] = n
		}
	}
	for word, n := range map[string]int{"connection lost": f.lost, "no connection": f.unheard} {
		if n > 0 {
			last.Answers[word] = n
		}
	}
	return f.said.Encode(last)
}

// bots are one for each address. They keep no common beat.
func (f *flooder) bots(now time.Time) ([]*floodingBot, error) {
	var all []*floodingBot
	for i, address := range f.Addresses {
		ip, err := netip.ParseAddr(address)
		if err != nil || !ip.Is4() {
			return nil, fmt.Errorf("%q is no address to flood from", address)
		}
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], f.Seed)
		binary.LittleEndian.PutUint64(seed[8:], uint64(i))
		all = append(all, &floodingBot{
			address: address, from: unix.SockaddrInet4{Addr: ip.As4()}, fd: -1, rng: rand.NewChaCha8(seed),
			due: now.Add(every * time.Duration(i) / time.Duration(len(f.Addresses))),
		})
	}
	return all, nil
}

// play sends all that a bot has to send by now, whether what it sent before is answered or not.
func (f *flooder) play(b *floodingBot, now time.Time) error {
	for ; !b.due.After(now); b.due = b.due.Add(every) {
		if b.fd < 0 && !f.connect(b) {
			f.unheard++
			continue
		}
		f.out = f.append(f.out[:0], b.rng, b.n)
		n, err := unix.Write(b.fd, f.out)
		switch {
		case err == nil && n == len(f.out):
			f.sent++
			f.late[min(int(now.Sub(b.due).Milliseconds()), len(f.late)-1)]++
		case errors.Is(err, unix.EAGAIN): // the gateway does not take it
		default:
			f.lose(b)
			continue
		}
		if b.n++; b.n%listenEach == 0 {
			if err := f.listen(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// connect does not wait until the connection is made: what is sent before is not taken.
func (f *flooder) connect(b *floodingBot) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), unix.Bind(fd, &b.from))
	if err == nil {
		if err = unix.Connect(fd, &f.to); errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
	}
	if err != nil {
		unix.Close(fd)
		return false
	}
	b.fd = fd
	return true
}

// listen counts what was answered, and tells of places.
func (f *flooder) listen(b *floodingBot) error {
	if b.fd < 0 {
		return nil
	}
	n, err := unix.Read(b.fd, f.in)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil || n == 0 {
		f.lose(b)
		return nil
	}
	b.part = append(b.part, f.in[:n]...)
	rest := b.part
	for len(rest) > 0 {
		status, body, more, err := cutAnswer(rest)
		if errors.Is(err, errPart) && len(rest) < mostUnread {
			break
		}
		if err != nil {
			f.lose(b)
			return nil
		}
		f.answers[status]++
		rest = more
		var p placeDoc
		if status == 201 && json.Unmarshal(body, &p) == nil && p.Token != "" {
			if err := f.said.Encode(flooded{Token: p.Token, Address: b.address}); err != nil {
				return err // who listens is gone
			}
		}
	}
	b.part = append(b.part[:0], rest...)
	return nil
}

func (f *flooder) lose(b *floodingBot) {
	f.lost++
	f.close(b)
}

func (f *flooder) close(b *floodingBot) {
	if b.fd >= 0 {
		unix.Close(b.fd)
	}
	b.fd, b.part = -1, b.part[:0]
}
