package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrMissing says that a program is not installed.
var ErrMissing = errors.New("a program is missing")

// Server is one running child.
type Server struct {
	// URL reaches the server over its unix socket.
	URL string

	name   string
	folder *Folder // kept, for its locks end with it
	cmd    *exec.Cmd
	polite syscall.Signal
	logged string // path of its log
	undo   func()
	done   chan struct{} // closed when the child has been reaped
}

// Done is closed when the server has ended, wished or not.
func (s *Server) Done() <-chan struct{} { return s.done }

// PID is the child's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop asks the server to end, and kills it and what it started when ctx ends first.
func (s *Server) Stop(ctx context.Context) {
	s.signal(s.polite)
	select {
	case <-s.done:
	case <-ctx.Done():
		s.signal(syscall.SIGKILL)
		<-s.done
	}
	s.undo()
}

// Kill ends the server without warning, as a crash would.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.done
	s.undo()
}

// signal goes to the child for a polite end, to its whole group for a hard one.
// A child that is gone already is what was wished for.
func (s *Server) signal(sig syscall.Signal) {
	select {
	case <-s.done:
		return
	default:
	}
	pid := s.cmd.Process.Pid
	if sig == syscall.SIGKILL {
		pid = -pid
	}
	_ = syscall.Kill(pid, sig)
}

// ready waits until answers gives no error, the child dies, or ctx ends.
func (s *Server) ready(ctx context.Context, answers func(context.Context) error) error {
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		err := answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			s.undo()
			return fmt.Errorf("%s ended while starting:\n%s", s.name, tail(s.logged))
		case <-ctx.Done():
			s.Kill()
			return fmt.Errorf("%s does not answer (%w):\n%s", s.name, err, tail(s.logged))
		case <-retry.C:
		}
	}
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// child is a program that is about to run in a folder of its own.
type child struct {
	name   string
	folder *Folder
	dir    string   // its own folder inside folder
	lock   *os.File // of its lineage
	args   []string
	polite syscall.Signal
	death  syscall.Signal // sent by the kernel when this process dies
}

// within is the path by which the child itself reaches dir. A dropped user may
// not be able to walk there from the root, so as root it is the descriptor that
// start passes as number 3.
func within(dir string) string {
	if dropsRoot() {
		return "/proc/self/fd/3"
	}
	return dir
}

func dropsRoot() bool { return runtime.GOOS == "linux" && os.Geteuid() == 0 }

func (c child) start(ctx context.Context, program string) (*Server, error) {
	dir, err := os.Open(c.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	logged := filepath.Join(c.folder.Path, c.name+".log")
	log, err := os.Create(logged)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	cmd := exec.Command(program, c.args...)
	cmd.Dir = "/" // where we stand may be closed to the dropped user
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{dir, c.lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr, c.death)
	if dropsRoot() {
		who, err := servant()
		if err != nil {
			return nil, err
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := startOnLivingThread(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	s := &Server{name: c.name, folder: c.folder, cmd: cmd, polite: c.polite, logged: logged, undo: func() {}, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(s.done)
	}()
	return s, nil
}

// The kernel sends a parent-death signal when the thread that forked ends, and
// Go ends threads as it likes. So one goroutine keeps a thread for life and
// starts every child on it.
var (
	starterOnce sync.Once
	starts      = make(chan func())
)

func startOnLivingThread(cmd *exec.Cmd) error {
	starterOnce.Do(func() { go starter() })
	started := make(chan error, 1)
	starts <- func() { started <- cmd.Start() }
	return <-started
}

func starter() {
	runtime.LockOSThread()
	for start := range starts {
		start()
	}
}

type account struct {
	name     string
	uid, gid uint32
}

// servant is the unprivileged user that servers run as when we are root.
var servant = sync.OnceValues(func() (account, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return account{}, errors.New("as root the servers need the user postgres or nobody to run as")
})

// own makes a folder for a server, closed to others.
func own(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if !dropsRoot() {
		return nil
	}
	who, err := servant()
	if err != nil {
		return err
	}
	return os.Chown(dir, int(who.uid), int(who.gid))
}

// program finds the first of names on PATH or in the places where packages
// hide it, the newest version first.
func program(hint string, names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		var found []string
		for _, place := range []string{
			"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
			"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
		} {
			paths, _ := filepath.Glob(filepath.Join(place, name)) // the patterns are well formed
			found = append(found, paths...)
		}
		if len(found) > 0 {
			return slices.Max(found), nil
		}
	}
	return "", fmt.Errorf("%w: %s (install %s, or run `make setup`)", ErrMissing, strings.Join(names, " or "), hint)
}
