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

	owner *os.File // locked
}

// Lock makes the folder if it is missing and takes it.
func Lock(path string) (*Folder, error) {
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
	err = owner.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(owner, os.Getpid())
	}
	if err != nil {
		owner.Close()
		return nil, fmt.Errorf("write %s: %w", owner.Name(), err)
	}
	return &Folder{Path: path, owner: owner}, nil
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data folder's lock: %w", err)
	}
	return f, nil
}

// Unlock gives the folder up.
func (f *Folder) Unlock() { f.owner.Close() }

// lineage takes the lock of all processes of one server: they inherit it and we
// close it, so it is free when the last of them has ended. It waits for that
// until ctx ends.
func (f *Folder) lineage(ctx context.Context, server string) (*os.File, error) {
	lock, err := openLock(filepath.Join(f.Path, server+".lock"))
	if err != nil {
		return nil, err
	}
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			lock.Close()
			return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			lock.Close()
			return nil, fmt.Errorf("%w: an earlier %s of %s has not ended", ErrInUse, server, f.Path)
		}
	}
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
