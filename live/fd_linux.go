package live

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// descriptor returns the descriptor of an open file. The Fd method would make
// the open file blocking, in the parent as well.
func descriptor(f syscall.Conn) (fd int, ok bool) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = conn.Control(func(n uintptr) { fd = int(n) })
	return fd, err == nil
}

// duplicate returns a new file for the open file of f.
func duplicate(f *os.File) (*os.File, error) {
	old, open := descriptor(f)
	if !open {
		return nil, os.ErrClosed
	}
	fd, err := unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// openFDs returns this process's open descriptors.
func openFDs() []int {
	if fds := listFDs(); fds != nil {
		return fds
	}
	// Without /proc each number is tried. The limit may be lower than an open descriptor, or
	// infinite.
	const most = 1 << 20 // the default of fs.nr_open
	limit := unix.Rlimit{Max: most}
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	var fds []int
	for fd := range int(min(limit.Max, most)) {
		if isOpen(fd) {
			fds = append(fds, fd)
		}
	}
	return fds
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// listFDs returns the descriptors that /proc lists, or nil if /proc does not.
func listFDs() (fds []int) {
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(dir)
	buf := make([]byte, 8<<10)
	var names []string
	for {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil {
			return nil
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	listed := false // another file system may be mounted at /proc
	for _, name := range names {
		switch fd, err := strconv.Atoi(name); {
		case err != nil:
		case fd == dir:
			listed = true
		default:
			fds = append(fds, fd)
		}
	}
	if !listed {
		return nil
	}
	return fds
}
