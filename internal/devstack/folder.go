package devstack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse says that another process owns the folder.
var ErrInUse = errors.New("the data folder is in use")

// Folder is a data folder that this process owns until Unlock or its death.
type Folder struct {
	Path string // absolute

	owner    *os.File // locked by this process alone
	children *os.File // locked too, and inherited by every child
}

// Lock makes the folder if it is missing and takes it. Where the last owner was
// killed and its children are still stopping, it waits for them until ctx ends.
func Lock(ctx context.Context, path string) (*Folder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	owner, err := openLock(filepath.Join(path, "owner.lock"))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(owner.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(owner.Name()) // only to say who; without it the error is still clear
		owner.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s (by process %s)", ErrInUse, path, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	f := &Folder{Path: path, owner: owner}
	if err := f.lockChildren(ctx); err != nil {
		f.Unlock()
		return nil, err
	}
	err = owner.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(owner, os.Getpid())
	}
	if err != nil {
		f.Unlock()
		return nil, fmt.Errorf("write %s: %w", owner.Name(), err)
	}
	return f, nil
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data folder's lock: %w", err)
	}
	return f, nil
}

func (f *Folder) lockChildren(ctx context.Context) error {
	lock, err := openLock(filepath.Join(f.Path, "children.lock"))
	if err != nil {
		return err
	}
	f.children = lock
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: servers that an earlier run started on %s have not stopped", ErrInUse, f.Path)
		}
	}
}

// Unlock gives the folder up. Children that still run keep it from the next
// owner until they end.
func (f *Folder) Unlock() {
	if f.children != nil {
		f.children.Close()
	}
	f.owner.Close()
}

// maxSocketPath is what sockaddr_un.sun_path holds, less its final zero, on the
// narrowest system (macOS: 104).
const maxSocketPath = 103

// shortPath returns a path of the folder under which the socket's name fits a
// socket address: the folder itself, or a link to it in the temporary folder.
func shortPath(folder, socket string) (path string, remove func(), err error) {
	if len(folder)+1+len(socket) <= maxSocketPath {
		return folder, func() {}, nil
	}
	sum := sha256.Sum256([]byte(folder))
	link := filepath.Join(os.TempDir(), fmt.Sprintf("usher-%d-%x", os.Getuid(), sum[:6]))
	if err := os.Symlink(folder, link); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", nil, fmt.Errorf("link the socket folder: %w", err)
	}
	// Whoever else can write here must not be able to lead clients elsewhere.
	if to, err := os.Readlink(link); err != nil || to != folder {
		return "", nil, fmt.Errorf("link the socket folder: %s is somebody else's", link)
	}
	return link, func() { os.Remove(link) }, nil
}
