package shm

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// childID names a child for waitid(2), by a pidfd or by a process id.
type childID struct{ idType, id int } // idType is unix.P_PIDFD or unix.P_PID

// childHandle names a child until the child is reaped. The name is a pidfd, or the child's process id where pidfd_open(2)
// is denied: by an old seccomp(2) filter, or by Linux before 5.10.
//
// A process id can be another process's once the child is reaped. So the reaping holds mu, and so does whoever signals
// by a process id.
type childHandle struct {
	pid   int
	owner uint64   // the token of the child's parent: a live fork's child has a copy of the handle
	pidfd *os.File // nil where pidfd_open(2) is denied

	mu     sync.Mutex
	reaped bool
}

// openHandle returns a handle of a child of this process. The error is ESRCH or ECHILD if another has reaped the child.
func openHandle(pid int) (*childHandle, error) {
	h := &childHandle{pid: pid, owner: processToken()}
	fd, err := openPidfd(pid)
	id := childID{unix.P_PIDFD, fd}
	switch {
	case isDenied(err):
		id = childID{unix.P_PID, pid}
	case err != nil:
		return nil, err
	}
	// The process id may be another process's by now, which is no child of this process.
	if _, _, err := id.wait(unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		if id.idType == unix.P_PIDFD {
			_ = unix.Close(fd)
		}
		return nil, os.NewSyscallError("waitid", err)
	}
	if id.idType == unix.P_PIDFD {
		h.pidfd = os.NewFile(uintptr(fd), "pidfd")
	}
	return h, nil
}

func openPidfd(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	return fd, os.NewSyscallError("pidfd_open", err)
}

// isReaped reports whether the child is reaped.
func (h *childHandle) isReaped() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reaped
}

// canOpenHandle returns the error that openHandle would fail with, as far as it can be foreseen.
func canOpenHandle() error {
	fd, err := openPidfd(os.Getpid())
	if err != nil {
		if isDenied(err) {
			return nil
		}
		return err
	}
	return os.NewSyscallError("close", unix.Close(fd))
}

// isDenied reports whether pidfd_open(2) failed since a filter or an old kernel denies it: Linux before 5.3 has no such
// call, and before 5.10 no PIDFD_NONBLOCK.
func isDenied(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)
}

// use calls f with the child's name. Once the child is reaped, use returns os.ErrProcessDone instead. f must not wait.
func (h *childHandle) use(f func(childID)) error {
	if h.pidfd != nil {
		conn, err := h.pidfd.SyscallConn()
		if err == nil {
			err = conn.Control(func(fd uintptr) { f(childID{unix.P_PIDFD, int(fd)}) })
		}
		if err != nil {
			return os.ErrProcessDone // close has closed the pidfd
		}
		return nil
	}
	return h.usePid(f)
}

// usePid is use by the process id.
func (h *childHandle) usePid(f func(childID)) error {
	if h.owner != processToken() { // a copy's lock may be locked for ever
		return fmt.Errorf("child %d is a child of the process that this process is a fork of: %w", h.pid, unix.ECHILD)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reaped {
		return os.ErrProcessDone
	}
	f(childID{unix.P_PID, h.pid})
	return nil
}

// signal sends the child a signal.
func (h *childHandle) signal(sig unix.Signal) error {
	var err error
	if useErr := h.use(func(id childID) { err = id.signal(sig) }); useErr != nil {
		return useErr
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ECHILD) {
		return os.ErrProcessDone
	}
	return err
}

// wait is waitid(2). wpid is 0 where options has WNOHANG and there is nothing to tell. usage may be nil.
func (id childID) wait(options int, usage *unix.Rusage) (wpid int, status unix.WaitStatus, err error) {
	return waitID(id.idType, id.id, options, usage)
}

func (id childID) signal(sig unix.Signal) error {
	if id.idType == unix.P_PIDFD {
		return os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(id.id, sig, nil, 0))
	}
	if err := id.isChild(); err != nil {
		return err
	}
	return os.NewSyscallError("kill", unix.Kill(id.id, sig))
}

// isChild returns an error if there is no such child: the kernel itself reaps children while SIGCHLD is ignored.
func (id childID) isChild() error {
	_, _, err := id.wait(unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return os.NewSyscallError("waitid", err)
}

const pidfdSignalProcessGroup = 4 // PIDFD_SIGNAL_PROCESS_GROUP of pidfd_send_signal(2), Linux 6.9

// killGroup kills the process group that the child leads. The group's id is the child's process id.
func (h *childHandle) killGroup() {
	err := error(unix.EINVAL)
	if h.pidfd != nil {
		_ = h.use(func(id childID) { err = unix.PidfdSendSignal(id.id, unix.SIGKILL, nil, pidfdSignalProcessGroup) })
	}
	if err != unix.EINVAL {
		return
	}
	_ = h.usePid(func(id childID) { // without a pidfd, or before Linux 6.9
		if id.isChild() == nil {
			_ = unix.Kill(-id.id, unix.SIGKILL)
		}
	})
}

// hasEnded reports whether the child has ended. A child that another process traces (ptrace(2)) has not ended for
// waitid(2) before the tracer lets go of it. So hasEnded asks the pidfd if there is one.
func (id childID) hasEnded() bool {
	if id.idType == unix.P_PIDFD {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(id.id), Events: unix.POLLIN}}, 0)
		return n == 1 && err == nil
	}
	wpid, _, err := id.wait(unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return wpid != 0 || err != nil
}

// await calls ended whenever the child may have ended, until ended returns true. By a pidfd, await waits in the runtime's
// poller, where it holds no thread.
func (h *childHandle) await(ended func(childID) bool) {
	if h.pidfd == nil {
		for id := (childID{unix.P_PID, h.pid}); !ended(id); { // this child costs a thread
			_, _, _ = id.wait(unix.WEXITED|unix.WNOWAIT, nil)
		}
		return
	}
	conn, err := h.pidfd.SyscallConn()
	if err == nil {
		err = conn.Read(func(fd uintptr) bool { return ended(childID{unix.P_PIDFD, int(fd)}) })
	}
	if err == nil {
		return
	}
	// The poller has no room for the pidfd (epoll(7), max_user_watches). So this child costs a thread, too.
	_ = conn.Control(func(fd uintptr) {
		for !ended(childID{unix.P_PIDFD, int(fd)}) {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		}
	})
}

// reap takes the child's status, if the child has ended. If the child has not, wpid is 0.
func (h *childHandle) reap(id childID, usage *unix.Rusage) (wpid int, status unix.WaitStatus, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wpid, status, err = id.wait(unix.WEXITED|unix.WNOHANG, usage)
	h.reaped = wpid != 0 || err != nil
	return wpid, status, err
}

// killAndReap kills the child, and waits until the child is reaped.
func (h *childHandle) killAndReap() {
	_ = h.signal(unix.SIGKILL) // the child may have ended already
	awaitPid(h.pid)            // a pidfd does not wait (PIDFD_NONBLOCK)
	h.close()
}

// killUnwatched is killAndReap for a child that has no handle.
func killUnwatched(pid int) {
	if wpid, _, err := Waitpid(pid, unix.WNOHANG); wpid != 0 || err != nil {
		return // pid may be another process's by now
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	awaitPid(pid)
}

func awaitPid(pid int) {
	for err := error(unix.EINTR); err == unix.EINTR; {
		_, _, err = Waitpid(pid, 0)
	}
}

// close gives up the handle of a child that is reaped, or lost.
func (h *childHandle) close() {
	h.mu.Lock()
	h.reaped = true
	h.mu.Unlock()
	if h.pidfd != nil {
		_ = h.pidfd.Close()
	}
}
