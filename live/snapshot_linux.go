package live

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/procmaps"
)

// target is a file that a snapshot replaces. The parent finds it before the
// fork. The child does all that is slow, such as writing to a disk.
type target struct {
	path      string
	dir       int // descriptor of the folder
	name      string
	temporary string
	former    *unix.Stat_t // nil if there is none

	place place
}

// place identifies a file, whatever its path.
type place struct {
	process  uint64 // by its token: a forked child's snapshots are its own
	dev, ino uint64
	name     string
}

// saving has the places of the snapshots that are under way. It has no lock,
// because a lock might be held in a child.
var saving atomic.Pointer[[]place]

func openTarget(path string) (*target, error) {
	fail := func(err error) (*target, error) {
		return nil, &os.PathError{Op: "snapshot", Path: path, Err: err}
	}
	folder, name, err := followLinks(path)
	if err != nil {
		return fail(err)
	}
	if name == "" || name == "." || name == ".." {
		return fail(unix.EISDIR)
	}
	if folder == "" {
		folder = "."
	}
	t := &target{path: path, name: name}
	t.temporary = "." + name[:min(len(name), 200)] + ".live-snapshot"
	t.dir, err = highfd.Open(func() (int, error) {
		return unix.Open(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fail(err)
	}
	if err := t.look(); err != nil {
		_ = unix.Close(t.dir)
		return fail(err)
	}
	if !t.enter() {
		_ = unix.Close(t.dir)
		return fail(ErrSaving)
	}
	return t, nil
}

// followLinks returns the folder and the name of the file to which a path
// leads, through any symbolic links.
func followLinks(path string) (folder, name string, err error) {
	folder, name = filepath.Split(path)
	for range 40 { // as many links as the kernel follows
		link, err := os.Readlink(folder + name)
		if err != nil { // not a link, or nothing there
			return folder, name, nil
		}
		if filepath.IsAbs(link) {
			folder = ""
		}
		// The path is not cleaned: if folder is a link, ".." does not undo it.
		folder, name = filepath.Split(folder + link)
	}
	return "", "", unix.ELOOP
}

// look finds out what a parent can know without writing to the folder.
func (t *target) look() error {
	if err := unix.Faccessat(t.dir, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return err
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(t.dir, t.name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return unix.EISDIR
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("not a regular file: %w", unix.EINVAL)
	default:
		former := st
		t.former = &former
	}
	if err := unix.Fstat(t.dir, &st); err != nil {
		return err
	}
	t.place = place{hook.ProcessToken(), uint64(st.Dev), st.Ino, t.name}
	return nil
}

// enter notes that a snapshot to the target is under way, unless one is.
func (t *target) enter() bool {
	for {
		old := saving.Load()
		var list []place
		if old != nil {
			for _, p := range *old {
				if p == t.place {
					return false
				}
				list = append(list, p)
			}
		}
		list = append(list, t.place)
		if saving.CompareAndSwap(old, &list) {
			return true
		}
	}
}

func (t *target) leave() {
	for {
		old := saving.Load()
		var list []place
		for _, p := range *old {
			if p != t.place {
				list = append(list, p)
			}
		}
		if saving.CompareAndSwap(old, &list) {
			return
		}
	}
}

func (t *target) close() {
	_ = unix.Close(t.dir)
	t.leave()
}

// replace is the child's part: it replaces the file by what encode writes.
func (t *target) replace(parent self, b *board, encode func(io.Writer) error) error {
	ignoreSignals()
	n := &newFile{target: t}
	if err := whileParentLives(parent, n.abandon); err != nil {
		return err
	}
	if err := n.open(); err != nil {
		return err
	}
	defer n.f.Close()
	if err := n.fill(b, encode); err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.removeName()
		return err
	}
	return n.install(parent)
}

// newFile is the file that a child writes, before it stands in the place of the
// former one.
type newFile struct {
	*target
	f *os.File

	mu    sync.Mutex // held where an exit would leave the temporary name
	named bool       // the file has the temporary name
}

// abandon ends the child, and leaves no name.
func (n *newFile) abandon() {
	n.mu.Lock()
	n.removeName()
	os.Exit(1)
}

func (n *newFile) removeName() {
	if n.named {
		_ = unix.Unlinkat(n.dir, n.temporary, 0)
		n.named = false
	}
}

func (n *newFile) open() (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clean()
	n.f, n.named, err = n.create()
	return err
}

// fill writes the file, and waits until the file system has it.
func (n *newFile) fill(b *board, encode func(io.Writer) error) error {
	if err := b.encode(n.f, encode); err != nil {
		return err
	}
	if err := n.dress(n.f); err != nil {
		return err
	}
	if err := unix.Fsync(int(n.f.Fd())); err != nil {
		return os.NewSyscallError("fsync", err)
	}
	b.copied.Store(privateDirty())
	return nil
}

// install gives the file the former one's name.
func (n *newFile) install(parent self) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer n.removeName() // unless the file was renamed
	if !n.named {
		if err := n.link(int(n.f.Fd())); err != nil {
			return err
		}
		n.named = true
	}
	if parent.hasEnded(0) {
		return errParentEnded
	}
	if err := unix.Renameat(n.dir, n.temporary, n.dir, n.name); err != nil {
		return os.NewSyscallError("renameat", err)
	}
	n.named = false
	return os.NewSyscallError("fsync", unix.Fsync(n.dir))
}

// create makes the new file, without a name if the file system can. The file is
// locked by flock(2) while its child lives. The lock tells a name that is in
// use from a name that was left.
func (t *target) create() (f *os.File, named bool, err error) {
	mode := uint32(0o666) // less the umask
	if t.former != nil {
		mode = 0o600 // until dress sets the mode
	}
	fd, err := unix.Openat(t.dir, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	switch err {
	case nil:
		err = os.NewSyscallError("flock", unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
	case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOENT:
		named = true
		fd, err = t.createNamed(mode)
	default:
		return nil, false, os.NewSyscallError("openat", err)
	}
	if err != nil {
		return nil, false, err
	}
	return os.NewFile(uintptr(fd), t.path), named, nil
}

func (t *target) createNamed(mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(t.dir, t.temporary,
			unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode)
		if err == unix.EEXIST {
			if err := t.removeStale(unix.LOCK_NB); err != nil {
				return -1, err
			}
			continue
		}
		if err != nil {
			return -1, os.NewSyscallError("openat", err)
		}
		// Before the lock, another process may have taken the file for one that was left.
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && t.isTemporary(fd) {
			return fd, nil
		}
		_ = unix.Close(fd)
		if err != nil && err != unix.EWOULDBLOCK {
			return -1, os.NewSyscallError("flock", err)
		}
	}
}

// link gives the new file the temporary name. Then the file can be renamed:
// linkat(2) replaces no file.
func (t *target) link(fd int) error {
	for {
		err := unix.Linkat(fd, "", t.dir, t.temporary, unix.AT_EMPTY_PATH)
		if err == unix.ENOENT { // this process lacks CAP_DAC_READ_SEARCH
			err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), t.dir, t.temporary,
				unix.AT_SYMLINK_FOLLOW)
		}
		if err != unix.EEXIST {
			return os.NewSyscallError("linkat", err)
		}
		// Another process is about to rename the name, or the name was left.
		if err := t.removeStale(0); err != nil {
			return err
		}
	}
}

// clean removes the temporary name if no living child has it.
func (t *target) clean() { _ = t.removeStale(unix.LOCK_NB) }

// removeStale removes the temporary name when no living child has it. With
// LOCK_NB as how, removeStale does not wait for that, and returns ErrSaving.
// Only the holder of a file's lock removes the file's name.
func (t *target) removeStale(how int) error {
	for {
		fd, err := unix.Openat(t.dir, t.temporary,
			unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("openat", err)
		}
		err = unix.Flock(fd, unix.LOCK_EX|how)
		removed := false
		if err == nil && t.isTemporary(fd) {
			err = unix.Unlinkat(t.dir, t.temporary, 0)
			removed = err == nil
		}
		_ = unix.Close(fd)
		switch {
		case removed:
			return nil
		case err == unix.EWOULDBLOCK:
			return ErrSaving
		case err != nil && err != unix.EINTR && err != unix.ENOENT:
			return fmt.Errorf("remove %s: %w", t.temporary, err)
		}
	}
}

// isTemporary returns whether the temporary name is that of the open file.
func (t *target) isTemporary(fd int) bool {
	var open, named unix.Stat_t
	return unix.Fstat(fd, &open) == nil && unix.Fstatat(t.dir, t.temporary, &named,
		unix.AT_SYMLINK_NOFOLLOW) == nil &&
		open.Dev == named.Dev && open.Ino == named.Ino
}

// dress gives the new file the former one's owner, group and permissions.
func (t *target) dress(f *os.File) error {
	if t.former == nil {
		return nil
	}
	fd := int(f.Fd())
	// The owner and group come before the mode, which applies to them.
	if unix.Fchown(fd, int(t.former.Uid), int(t.former.Gid)) != nil {
		_ = unix.Fchown(fd, -1, int(t.former.Gid))
	}
	return os.NewSyscallError("fchmod", unix.Fchmod(fd, t.former.Mode&0o777))
}

// ignoreSignals has the child ignore signals. A terminal sends SIGINT and
// SIGHUP to parent and child, and the parent decides what they mean. Without
// SIGXFSZ, a file that grows too large is an error.
func ignoreSignals() { signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGXFSZ) }

// self is a pidfd of this process, by which its children know it. A child in
// another pid namespace does not know its process id.
type self struct{ pidfd int }

func openSelf() (self, error) {
	fd, err := highfd.Open(func() (int, error) { return unix.PidfdOpen(os.Getpid(), 0) })
	return self{fd}, os.NewSyscallError("pidfd_open", err)
}

func (s self) close() { _ = unix.Close(s.pidfd) }

var errParentEnded = errors.New("the parent has ended")

// whileParentLives calls exit when the parent ends. PR_SET_PDEATHSIG would
// signal the end of the thread that forked.
func whileParentLives(parent self, exit func()) error {
	if parent.hasEnded(0) {
		return errParentEnded
	}
	go func() {
		attend()
		for !parent.hasEnded(-1) {
		}
		exit()
	}()
	return nil
}

// hasEnded waits for the process's end for so many milliseconds.
func (s self) hasEnded(timeout int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.pidfd), Events: unix.POLLIN}}, timeout)
	return n == 1 || err != nil && err != unix.EINTR
}

// privateDirty returns how many bytes of memory this process alone has, or 0 if
// the kernel does not tell.
func privateDirty() int64 {
	usage, err := procmaps.Rollup(0)
	if err != nil {
		return 0
	}
	return int64(usage.PrivateDirty)
}

// pipe is the way of a snapshot to a writer. At the fork its ends are not
// os.Files, which the child's poller would not know.
type pipe struct{ r, w int }

func newPipe() (*pipe, error) {
	ends, err := highfd.OpenPair(func() (ends [2]int, err error) {
		err = unix.Pipe2(ends[:], unix.O_CLOEXEC)
		return ends, err
	})
	if err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	return &pipe{ends[0], ends[1]}, nil
}

func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// fill is the child's part: it writes what encode writes to the pipe.
func (p *pipe) fill(parent self, b *board, encode func(io.Writer) error) error {
	ignoreSignals()
	if err := whileParentLives(parent, func() { os.Exit(1) }); err != nil {
		return err
	}
	f := os.NewFile(uintptr(p.w), "pipe")
	err := b.encode(f, encode)
	b.copied.Store(privateDirty())
	if err != nil {
		return err
	}
	return f.Close()
}

// reader returns the parent's end of the pipe, and closes the child's end.
func (p *pipe) reader() *pipeReader {
	_ = unix.Close(p.w)
	_ = unix.SetNonblock(p.r, true)
	return &pipeReader{os.NewFile(uintptr(p.r), "pipe")}
}

// pipeReader reads until the child writes no more. It cannot wait for the
// pipe's end, because children that this process forked meanwhile have the
// pipe's other end, too.
type pipeReader struct{ file *os.File }

func (r *pipeReader) writerIsGone() { _ = r.file.SetReadDeadline(time.Unix(0, 0)) }

func (r *pipeReader) Close() error { return r.file.Close() }

func (r *pipeReader) Read(p []byte) (n int, err error) {
	n, err = r.file.Read(p)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	conn, err := r.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := conn.Control(func(fd uintptr) { n, err = unix.Read(int(fd), p) })
	if controlErr != nil {
		return 0, controlErr
	}
	switch {
	case err == unix.EAGAIN || n == 0 && err == nil:
		return 0, io.EOF
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	}
	return n, nil
}
