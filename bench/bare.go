package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"
)

// A recorded answer: what the bare handler repeats.
type recorded struct {
	Header http.Header
	Body   []byte
}

// record joins once and keeps the answer, less what net/http adds itself.
func record(ctx context.Context, gateway, room string) (recorded, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway+"/api/v1/rooms/"+room+"/places", nil)
	if err != nil {
		return recorded{}, err
	}
	req.Header.Set("X-Forwarded-For", "192.0.2.1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return recorded{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return recorded{}, err
	}
	if resp.StatusCode != http.StatusCreated {
		return recorded{}, fmt.Errorf("join: %s %s", resp.Status, body)
	}
	h := resp.Header.Clone()
	h.Del("Date")
	h.Del("Content-Length")
	return recorded{h, body}, nil
}

// startBare runs this program again as a gin server that does nothing but repeat the answer, and returns its address.
func startBare(ctx context.Context, answer recorded) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	said, err := json.Marshal(answer)
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), bareMark+"=1")
	cmd.Stdin = strings.NewReader(string(said))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("start the bare handler: %w", err)
	}
	return strings.TrimSpace(address), stop, nil
}

// bareMark in the environment makes this program the bare handler.
const bareMark = "USHER_BENCH_BARE"

// serveBare repeats the answer that it reads from in to every join, until SIGTERM.
func serveBare(in io.Reader, out io.Writer) error {
	var answer recorded
	if err := json.NewDecoder(in).Decode(&answer); err != nil {
		return err
	}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.POST("/api/v1/rooms/:room/places", func(c *gin.Context) {
		h := c.Writer.Header()
		for name, values := range answer.Header {
			h[name] = values
		}
		c.Writer.WriteHeader(http.StatusCreated)
		_, _ = c.Writer.Write(answer.Body) // a client that left is its own affair
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr())
	server := http.Server{Handler: engine, ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(l)
}
