package shm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
)

// childID names a child for waitid(2), by a pidfd or by a process id.
type childID struct{ idType, id int } // idType is unix.P_PIDFD or unix.P_PID

// childHandle names a child until the child is reaped. The name is a pidfd.
// Where an old seccomp(2) filter or Linux before 5.10 denies pidfd_open(2), the
// name is the child's process id.
//
// Once the child is reaped, another process can have the same process id. So mu
// is held to reap the child, and to signal by the process id.
type childHandle struct {
	pid   int
	owner uint64   // the token of the child's parent: a live fork's child has a copy of the handle
	pidfd *os.File // nil where pidfd_open(2) is denied

	mu     sync.Mutex
	reaped bool
}

// children has the process ids of the children that this package has forked and
// not reaped. No other process has one of these. So a fork server that names
// one lies.
var children childTable

// childTable has the children of one process. A live fork's child makes a table of its own: its
// parent's may be locked. The lock is taken under syscall.ForkLock, so it cannot be one of hook.Locks.
type childTable struct{ current atomic.Pointer[childPids] }

type childPids struct {
	sync.Mutex
	owner uint64 // the token of the process whose children these are
	pids  map[int]struct{}
}

// lock locks this process's table.
func (t *childTable) lock() *childPids {
	c := t.current.Load()
	for token := processToken(); c == nil || c.owner != token; c = t.current.Load() {
		t.current.CompareAndSwap(c, &childPids{owner: token, pids: map[int]struct{}{}})
	}
	c.Lock()
	return c
}

// add adds a child, and reports whether it was not there.
func (t *childTable) add(pid int) bool {
	c := t.lock()
	defer c.Unlock()
	_, found := c.pids[pid]
	c.pids[pid] = struct{}{}
	return !found
}

// remove removes a child that is reaped.
func (t *childTable) remove(pid int) {
	c := t.lock()
	defer c.Unlock()
	delete(c.pids, pid)
}

// reap calls wait, which may reap a child, and removes the child if wait reports
// that. Until then no child is added: the next one may have the same process id.
func (t *childTable) reap(pid int, wait func() (reaped bool)) {
	c := t.lock()
	defer c.Unlock()
	if wait() {
		delete(c.pids, pid)
	}
}

func (t *childTable) has(pid int) bool {
	c := t.lock()
	defer c.Unlock()
	_, found := c.pids[pid]
	return found
}

// openHandle returns a handle of a child of this process. The error is ESRCH or
// ECHILD if other code has reaped the child.
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
	// Another process may have the process id by now. waitid fails for a process that is no child.
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
	fd, err := highfd.Open(func() (int, error) { return unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK) })
	return fd, os.NewSyscallError("pidfd_open", err)
}

// isReaped reports whether the child is reaped.
func (h *childHandle) isReaped() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reaped
}

// hasEnded reports whether the child has ended.
func (h *childHandle) hasEnded() bool {
	ended := true // once it is reaped
	_ = h.use(func(id childID) { ended = id.hasEnded() })
	return ended
}

// canOpenHandle returns an error if openHandle would fail now, for example for
// want of descriptors.
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

// isDenied reports whether a filter or an old kernel denies pidfd_open(2).
// Linux before 5.3 does not have the call (ENOSYS). Linux before 5.10 does not
// have PIDFD_NONBLOCK (EINVAL).
func isDenied(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) ||
		errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)
}

// use calls f with the child's name. Once the child is reaped, use returns
// os.ErrProcessDone and does not call f. f must not wait.
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

// usePid is use with the process id.
func (h *childHandle) usePid(f func(childID)) error {
	if h.owner != processToken() { // the lock in a live fork's copy may stay locked
		return fmt.Errorf("child %d belongs to the parent of this process: %w", h.pid, unix.ECHILD)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reaped {
		return os.ErrProcessDone
	}
	f(childID{unix.P_PID, h.pid})
	return nil
}

// signal sends a signal to the child.
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

// wait is waitid(2). If options has WNOHANG and there is no change, wpid is 0.
// usage may be nil.
func (id childID) wait(options int,
	usage *unix.Rusage) (wpid int, status unix.WaitStatus, err error) {
	return waitID(id.idType, id.id, options, usage)
}

// signal sends a signal to the child. The caller makes sure that the child is
// not reaped meanwhile.
func (id childID) signal(sig unix.Signal) error {
	if id.idType == unix.P_PIDFD {
		return os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(id.id, sig, nil, 0))
	}
	if err := id.isChild(); err != nil {
		return err
	}
	return os.NewSyscallError("kill", unix.Kill(id.id, sig))
}

// isChild returns an error if this process has no such child. While SIGCHLD is
// ignored, the kernel itself reaps the children.
func (id childID) isChild() error {
	_, _, err := id.wait(unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return os.NewSyscallError("waitid", err)
}

const pidfdSignalProcessGroup = 4 // PIDFD_SIGNAL_PROCESS_GROUP of pidfd_send_signal(2), Linux 6.9

// killGroup kills the process group that the child leads. The group's id is the
// child's process id.
func (h *childHandle) killGroup() {
	err := error(unix.EINVAL)
	if h.pidfd != nil {
		_ = h.use(func(id childID) {
			err = unix.PidfdSendSignal(id.id, unix.SIGKILL, nil, pidfdSignalProcessGroup)
		})
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

// hasEnded reports whether the child has ended. While another process traces
// the child (ptrace(2)), waitid(2) does not report its end, but a pidfd does.
func (id childID) hasEnded() bool {
	if id.idType == unix.P_PIDFD {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(id.id), Events: unix.POLLIN}}, 0)
		return n == 1 && err == nil
	}
	wpid, _, err := id.wait(unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return wpid != 0 || err != nil
}

// await calls ended each time that the child may have ended, until ended
// returns true. With a pidfd, await waits in the runtime's poller and holds no
// OS thread.
func (h *childHandle) await(ended func(childID) bool) {
	if h.pidfd == nil {
		for id := (childID{unix.P_PID, h.pid}); !ended(id); { // this holds a thread
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
	// The poller cannot take the pidfd (epoll(7), max_user_watches). So this holds a thread.
	_ = conn.Control(func(fd uintptr) {
		for !ended(childID{unix.P_PIDFD, int(fd)}) {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		}
	})
}

// reap reaps the child and returns its status. If the child has not ended, wpid
// is 0.
func (h *childHandle) reap(id childID,
	usage *unix.Rusage) (wpid int, status unix.WaitStatus, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	children.reap(h.pid, func() bool {
		wpid, status, err = id.wait(unix.WEXITED|unix.WNOHANG, usage)
		h.reaped = wpid != 0 || err != nil
		return h.reaped
	})
	return wpid, status, err
}

// killUnwatched kills and reaps a child that has no handle.
func killUnwatched(pid int) {
	defer children.remove(pid)
	if wpid, _, err := Waitpid(pid, unix.WNOHANG); wpid != 0 || err != nil {
		return // the child is reaped, and another process may have its process id
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	awaitPid(pid)
}

// awaitPid waits until the child is reaped.
func awaitPid(pid int) {
	for err := error(unix.EINTR); err == unix.EINTR; {
		_, _, err = Waitpid(pid, 0)
	}
}

// close closes the handle of a child that is reaped or lost.
func (h *childHandle) close() {
	h.mu.Lock()
	h.reaped = true
	h.mu.Unlock()
	if h.pidfd != nil {
		_ = h.pidfd.Close()
	}
}
