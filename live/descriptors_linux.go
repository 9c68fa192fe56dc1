package live

import (
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

// dropping is how a child lets go of the descriptors that it inherited, except
// those in keep: see [Config.DropFDs].
type dropping struct {
	inert int // a descriptor that can be neither read nor written
	done  *sign
	keep  []int
}

// dropLimit limits how long a parent waits for its child to let go. A child
// that hangs must not keep its parent from killing it.
const dropLimit = 10 * time.Second

// newDropping makes a dropping before the fork, so that the child needs no free
// descriptor. The caller closes it.
func newDropping(keep ...int) (*dropping, error) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	done, err := newSign()
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &dropping{fd, done, append(keep, fd, done.fd)}, nil
}

func (d *dropping) close() {
	_ = unix.Close(d.inert)
	d.done.close()
}

// wait waits until the child has let go, or has ended.
func (d *dropping) wait(child *shm.Process) {
	_, _ = d.done.orEndOf(child.Pid(), time.Now().Add(dropLimit))
}

// inChild lets go. The number of a descriptor stays taken: no other file gets a
// number that an inherited object still has, and may close.
func (d *dropping) inChild() {
	keep := append(runtimePoller(), d.keep...)
	for i, f := range standard {
		if fd, ok := descriptor(f); ok && fd == i {
			keep = append(keep, fd)
		}
	}
	if fd, ok := descriptor(logFile); ok {
		keep = append(keep, fd)
	}
	var files []int
	for _, fd := range openFDs() {
		switch {
		case slices.Contains(keep, fd):
		case isFile(fd):
			files = append(files, fd)
		default:
			d.drop(fd)
		}
	}
	for _, fd := range files { // last, as they are slower, and peers wait for the others
		d.reopen(fd)
	}
	_ = unix.Close(d.inert)
	d.done.give()
}

// drop makes operations on fd fail with EBADF.
func (d *dropping) drop(fd int) { _ = unix.Dup3(d.inert, fd, unix.O_CLOEXEC) }

// isFile reports whether fd is a regular file, a folder, a disk, or a device of
// memory such as /dev/null. Reading and writing those disturbs no other
// process, except by their offset and their locks.
func isFile(fd int) bool {
	const memory = 1 // the major number of such devices
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK, unix.S_IFLNK:
		return true
	case unix.S_IFCHR:
		return unix.Major(uint64(st.Rdev)) == memory
	}
	return false
}

// reopen gives the child an open file of its own at fd, for reading. Parent and
// child would share the old open file's offset, its lock by flock(2), and the
// effect that a file open for writing cannot be executed (ETXTBSY).
func (d *dropping) reopen(fd int) {
	const same = unix.O_DIRECT | unix.O_NOATIME | unix.O_NONBLOCK | unix.O_DIRECTORY
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || unix.Fstat(fd, &st) != nil {
		return
	}
	switch {
	case flags&(unix.O_PATH|unix.O_APPEND) != 0, st.Nlink == 0, st.Mode&unix.S_IFMT == unix.S_IFCHR:
		return // O_PATH holds nothing. Without a name it may be memory, as of memfd_create(2).
	case flags&unix.O_ACCMODE == unix.O_WRONLY:
		d.drop(fd)
		return
	}
	own, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd),
		unix.O_RDONLY|unix.O_CLOEXEC|flags&same, 0)
	if err != nil {
		return
	}
	defer unix.Close(own)
	if offset, err := unix.Seek(fd, 0, unix.SEEK_CUR); err == nil {
		_, _ = unix.Seek(own, offset, unix.SEEK_SET)
	}
	onExec := 0
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil &&
		flags&unix.FD_CLOEXEC != 0 {
		onExec = unix.O_CLOEXEC
	}
	_ = unix.Dup3(own, fd, onExec)
}
