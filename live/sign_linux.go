package live

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
)

// sign is a signal that a child gives its parent once. The end of a pipe would
// not do, because children that are forked meanwhile have the writing end, too.
type sign struct{ fd int }

func newSign() (*sign, error) {
	fd, err := highfd.Open(func() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) })
	return &sign{fd}, os.NewSyscallError("eventfd2", err)
}

func (s *sign) close() { _ = unix.Close(s.fd) }

// give gives the sign, in the child, and does not wait.
func (s *sign) give() {
	_, _ = unix.Write(s.fd, []byte{1, 1, 1, 1, 1, 1, 1, 1})
	s.close()
}

// orEndOf waits for the sign, or for the end of the child that is to give the
// sign. It does not reap the child. After the deadline it returns false.
func (s *sign) orEndOf(pid int, deadline time.Time) (bool, error) {
	child, err := highfd.Open(func() (int, error) { return unix.PidfdOpen(pid, 0) })
	if err == unix.ESRCH { // the child has ended, and was reaped elsewhere
		return true, nil
	}
	if err != nil {
		return false, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(child)
	for {
		left := max(0, time.Until(deadline))
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN},
			{Fd: int32(child), Events: unix.POLLIN}}
		timeout := unix.NsecToTimespec(left.Nanoseconds())
		switch n, err := unix.Ppoll(fds, &timeout, nil); {
		case err == unix.EINTR:
		case err != nil:
			return false, os.NewSyscallError("ppoll", err)
		case n > 0:
			return true, nil
		case left == 0:
			return false, nil
		}
	}
}
