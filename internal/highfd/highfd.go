//go:build linux

// Package highfd keeps the library's descriptors above 2. A program can
// close its standard files. Then the kernel gives their numbers to what is
// opened next, and children inherit 0, 1 and 2, whatever these are.
package highfd

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// first is the lowest descriptor that is no standard file.
const first = 3

// init has the runtime's poller open its own descriptors while the standard
// files are open, as they are when a Go program starts.
func init() {
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
}

// Open returns the descriptor that open returns, as Lift does. No fork of this
// library, nor of os/exec, finds the descriptor below 3. The caller does not
// hold syscall.ForkLock.
func Open(open func() (fd int, err error)) (int, error) {
	defer lock()()
	return Lift(open())
}

// OpenPair is Open for pipe2(2) and socketpair(2).
func OpenPair(open func() (ends [2]int, err error)) ([2]int, error) {
	defer lock()()
	return LiftPair(open())
}

// OpenFile opens a file for reading, with further flags of open(2).
func OpenFile(path string, flags int) (*os.File, error) {
	fd, err := Open(func() (int, error) { return open(path, flags|unix.O_RDONLY|unix.O_CLOEXEC) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// open is open(2), continued after signals.
func open(path string, flags int) (fd int, err error) {
	for {
		if fd, err = unix.Open(path, flags, 0); err != unix.EINTR {
			return fd, err
		}
	}
}

// lock keeps forks away if a standard file is closed, and returns what ends
// that.
func lock() (unlock func()) {
	for fd := range first {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			syscall.ForkLock.RLock()
			return syscall.ForkLock.RUnlock
		}
	}
	return func() {}
}

// Lift returns a descriptor above 2 that is as fd, and closes fd if it is
// another one. If err is not nil, Lift returns err.
func Lift(fd int, err error) (int, error) {
	if err != nil || fd >= first {
		return fd, err
	}
	defer unix.Close(fd)
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, first)
}

// LiftPair is Lift for two descriptors. After an error none is open.
func LiftPair(ends [2]int, err error) ([2]int, error) {
	if err != nil {
		return ends, err
	}
	for i := range ends {
		if ends[i], err = Lift(ends[i], nil); err != nil {
			_ = unix.Close(ends[1-i])
			return ends, err
		}
	}
	return ends, nil
}

// Duplicate returns a duplicate of fd.
func Duplicate(fd uintptr) (int, error) {
	return unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, first)
}
