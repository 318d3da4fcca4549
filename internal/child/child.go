package child

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// mark in the environment tells a program what kind of child it is.
const mark = "USHER_CHILD"

// Kind is what this process was started as; "" for one that is nobody's child. main asks first of all.
func Kind() string { return os.Getenv(mark) }

// Kinds are what a program may be started as, beside itself.
type Kinds map[string]func(in io.Reader, out io.Writer) error

// Serve is the whole life of a child.
func (k Kinds) Serve(kind string) error {
	serve, ok := k[kind]
	if !ok {
		return fmt.Errorf("%q is nothing that can be started", kind)
	}
	return serve(os.Stdin, os.Stdout)
}

// A Child is such a process, as its parent has it. One goroutine at a time may Say or Hear; Close is for any.
type Child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Start runs this program again as a child of that kind.
func Start(ctx context.Context, kind string) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &Child{cmd: exec.CommandContext(ctx, self)}
	c.cmd.Env = append(os.Environ(), mark+"="+kind)
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

// StartBehind is Start of a child that runs when no other program of this machine has anything to do (SCHED_IDLE of
// sched(7), from its first thread on; on Linux alone). It stands for what runs on machines of its own in life.
func StartBehind(ctx context.Context, kind string) (*Child, error) {
	type started struct {
		child *Child
		err   error
	}
	done := make(chan started)
	go func() {
		runtime.LockOSThread() // for good: the thread that stepped back ends with this goroutine
		err := stepBack()
		if err != nil {
			done <- started{nil, fmt.Errorf("run behind others: %w", err)}
			return
		}
		c, err := Start(ctx, kind)
		done <- started{c, err}
	}()
	s := <-done
	return s.child, s.err
}

// PID is the child's process.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Say sends a line.
func (c *Child) Say(line string) error {
	_, err := io.WriteString(c.in, line+"\n")
	return err
}

// Hear waits for the child's next line.
func (c *Child) Hear() (string, error) {
	line, err := c.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("a child process is gone: %w", err)
	}
	return strings.TrimSuffix(line, "\n"), nil
}

// Close ends what the child reads, so that it comes to its end; what it still says can be heard.
func (c *Child) Close() { _ = c.in.Close() } // it may be gone already

// Stop closes and waits until the child has ended.
func (c *Child) Stop() {
	c.Close()
	_ = c.cmd.Wait() // what it died of is on standard error
}
