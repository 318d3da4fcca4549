package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// A crowd is one client process of the push parts: visitors that each come from a loopback address of their own and hold
// a WebSocket.
type crowd struct {
	Address string // host:port
	Room    string // empty: plain sockets at /, without places
	First   int    // visitors are First … First+Count-1, and so are their addresses
	Count   int
	// Claims has a visitor who is called take a pass and close the socket; without it the call is only noted.
	Claims bool
}

// A sighting tells what one client process saw.
type sighting struct {
	Open     int            // sockets
	Messages uint64         // documents since the start, and their bytes
	Bytes    uint64         //
	Fresh    int            // open sockets that have had a document since the last sighting
	Rises    int            // positions that rose
	Ends     map[string]int // why sockets ended, other than by our own will
	Calls    []callSeen     // since the last sighting
}

type callSeen struct {
	Rank    uint64
	Expires time.Time // of the call: calls are in order when these are
	Fault   string    // of the claim; empty: a pass was given
}

// add counts another process' sighting in.
func (s *sighting) add(o sighting) {
	s.Open, s.Messages, s.Bytes = s.Open+o.Open, s.Messages+o.Messages, s.Bytes+o.Bytes
	s.Fresh, s.Rises = s.Fresh+o.Fresh, s.Rises+o.Rises
	for why, n := range o.Ends {
		if s.Ends == nil {
			s.Ends = map[string]int{}
		}
		s.Ends[why] += n
	}
	s.Calls = append(s.Calls, o.Calls...)
}

// crowded is a crowd at work.
type crowded struct {
	crowd
	mu   sync.Mutex // guards seen and the visitors' figures
	seen sighting
	all  []*visitor
}

type visitor struct {
	from     net.IP
	token    string
	conn     *websocket.Conn
	position uint64 // 0: none yet
	fresh    bool
	done     bool // it closes its socket itself
}

// serveCrowd opens the crowd that in describes, tells when all are there, and then answers each line with a sighting,
// until in ends.
func serveCrowd(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	c := &crowded{}
	if !lines.Scan() {
		return errors.New("no crowd is described")
	}
	if err := json.Unmarshal(lines.Bytes(), &c.crowd); err != nil {
		return err
	}
	c.seen.Ends = map[string]int{}
	if err := c.open(); err != nil {
		return err
	}
	say := json.NewEncoder(out)
	for {
		if err := say.Encode(c.look()); err != nil {
			return err
		}
		if !lines.Scan() {
			return lines.Err()
		}
	}
}

func (c *crowded) look() sighting {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.seen
	s.Ends = map[string]int{}
	for why, n := range c.seen.Ends {
		s.Ends[why] = n
	}
	c.seen.Calls = nil
	for _, v := range c.all {
		if v.fresh && !v.done {
			s.Fresh++
		}
		v.fresh = false
	}
	return s
}

// openersAtOnce bounds how many visitors arrive at the same moment.
const openersAtOnce = 32

func (c *crowded) open() error {
	next := make(chan int)
	fault := make(chan error, openersAtOnce)
	for range openersAtOnce {
		go func() {
			for i := range next {
				v := &visitor{from: net.IPv4(127, byte(16+i>>16), byte(i>>8), byte(i))}
				if err := c.arrive(v); err != nil {
					fault <- fmt.Errorf("visitor %d: %w", i, err)
					return
				}
			}
			fault <- nil
		}()
	}
	var err error
	left := openersAtOnce
	for i := c.First; i < c.First+c.Count && err == nil; {
		select {
		case next <- i:
			i++
		case err = <-fault:
			left--
		}
	}
	close(next)
	for ; left > 0; left-- {
		err = errors.Join(err, <-fault)
	}
	return err
}

func (c *crowded) dial(v *visitor) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: v.from}}
	return d.Dial("tcp", c.Address)
}

// arrive joins and opens the socket, over the same connection.
func (c *crowded) arrive(v *visitor) error {
	conn, err := c.dial(v)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	path, header := "/", http.Header{}
	if c.Room != "" {
		var place struct{ Token string }
		if err := c.post(conn, "/api/v1/rooms/"+c.Room+"/places", "", http.StatusCreated, &place); err != nil {
			return fmt.Errorf("join: %w", err)
		}
		v.token = place.Token
		path = "/api/v1/rooms/" + c.Room + "/place/ws"
		header.Set("Authorization", "Place "+v.token)
		header.Set("Sec-WebSocket-Protocol", "usher.v1")
	}
	same := websocket.Dialer{
		NetDial:        func(string, string) (net.Conn, error) { return conn, nil },
		ReadBufferSize: 512, WriteBufferSize: 512,
	}
	v.conn, _, err = same.Dial("ws://"+c.Address+path, header)
	if err != nil {
		return fmt.Errorf("open the socket: %w", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	v.conn.SetPingHandler(func(said string) error { // gorilla's own gives up after a second in which a busy machine let nobody run
		return v.conn.WriteControl(websocket.PongMessage, []byte(said), time.Now().Add(time.Minute))
	})
	c.mu.Lock()
	c.all = append(c.all, v)
	c.seen.Open++
	c.mu.Unlock()
	go c.follow(v) // ends with its socket, at the latest with the process
	return nil
}

// post sends a request over conn and decodes the answer, which must have the status.
func (c *crowded) post(conn net.Conn, path, token string, status int, into any) error {
	req, err := http.NewRequest(http.MethodPost, "http://"+c.Address+path, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Place "+token)
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != status {
		return fmt.Errorf("%s: %.300s", resp.Status, body)
	}
	return json.Unmarshal(body, into)
}

// follow reads the visitor's documents until the socket ends.
func (c *crowded) follow(v *visitor) {
	for {
		_, doc, err := v.conn.ReadMessage()
		if err != nil {
			c.ended(v, err)
			return
		}
		var p struct {
			State    string
			Rank     uint64
			Position uint64
			Expires  time.Time `json:"call_expires_at"`
		}
		if c.Room != "" {
			if err := json.Unmarshal(doc, &p); err != nil {
				c.ended(v, err)
				return
			}
		}
		c.mu.Lock()
		c.seen.Messages++
		c.seen.Bytes += uint64(len(doc))
		v.fresh = true
		if p.Position > 0 {
			if v.position > 0 && p.Position > v.position {
				c.seen.Rises++
			}
			v.position = p.Position
		}
		called := p.State == "called" && !v.done
		v.done = v.done || called && c.Claims
		c.mu.Unlock()
		if called {
			c.called(v, callSeen{Rank: p.Rank, Expires: p.Expires})
		}
	}
}

func (c *crowded) called(v *visitor, seen callSeen) {
	if c.Claims {
		if err := c.claim(v); err != nil {
			seen.Fault = err.Error()
		}
		v.conn.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.Calls = append(c.seen.Calls, seen)
}

func (c *crowded) claim(v *visitor) error {
	conn, err := c.dial(v)
	if err != nil {
		return err
	}
	defer conn.Close()
	var given struct{ Pass string }
	if err := c.post(conn, "/api/v1/rooms/"+c.Room+"/pass", v.token, http.StatusOK, &given); err != nil {
		return err
	}
	if given.Pass == "" {
		return errors.New("no pass was given")
	}
	return nil
}

func (c *crowded) ended(v *visitor, err error) {
	v.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.Open--
	if !v.done {
		v.done = true
		c.seen.Ends[err.Error()]++
	}
}
