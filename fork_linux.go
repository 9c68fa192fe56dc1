package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type waitStatus = unix.WaitStatus

// ForkConfig holds what [Mapping.Fork] is asked for beyond the child's function. What this version
// does not support yet is refused with [errors.ErrUnsupported], never ignored.
type ForkConfig struct {
	KillWithParent bool    // the child dies when this process dies; not supported yet
	Lean           bool    // leave the Go heap out of the child; not supported yet
	Limits         []Limit // setrlimit(2) in the child before its function runs; not supported yet
}

// Limit is a resource limit, as setrlimit(2) takes it.
type Limit struct {
	Resource int // unix.RLIMIT_*
	Rlimit   unix.Rlimit
}

// unsupported names the first field that this version cannot honour.
func (c *ForkConfig) unsupported() string {
	switch {
	case c == nil:
		return ""
	case c.KillWithParent:
		return "KillWithParent"
	case c.Lean:
		return "Lean"
	case len(c.Limits) > 0:
		return "Limits"
	}
	return ""
}

// Process is a child that [Mapping.Fork] made. Wait for it, as for any child: until then it stays,
// ended, as a zombie. One that becomes unreachable is reaped when it ends. It is reaped by nothing
// but its own pidfd, so that the other children of this program are left to their owners; do not
// reap its pid yourself.
type Process struct{ *process }

// process is what a Process stands for. It lives apart from it, as what reaps an unreachable Process
// must not hold the Process itself.
type process struct {
	pid      int
	pidfd    *os.File
	forkTime time.Duration

	reap sync.Once // sets err, which all who went through it may read
	err  error

	watch sync.Once     // makes ended, and has a goroutine reap
	ended chan struct{} // closed once reaped
}

// Fork forks a child that runs child(addr, length) on its view of the mapping, and ends in
// _exit(2) with what that returns. A shared mapping is seen by both; of a private one the child
// has a copy. The child's view is its own: Resize, MoveTo and Close on either side leave the other
// as it is. A nil cfg means all defaults.
//
// The child has one thread, every signal at its default and none blocked. It inherits every open
// descriptor, a pipe's writing end too: who reads that pipe sees no end before the child ends. An
// os/exec command that another goroutine is just starting can be held up so, as its Start waits on
// such a pipe. See fork(2).
func (m *Mapping) Fork(child ChildFunc, cfg *ForkConfig) (*Process, error) {
	const op = "fork"
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return nil, &Error{op, 0, ErrClosed}
	}
	length := m.mem.length
	if child == nil {
		return nil, &Error{op, length, fmt.Errorf("child is nil, must be a C function: %w", unix.EINVAL)}
	}
	if field := cfg.unsupported(); field != "" {
		return nil, &Error{op, length, fmt.Errorf("ForkConfig.%s is not supported yet: %w", field, errors.ErrUnsupported)}
	}

	// Once there is a child its pidfd must be had. What would prevent it is found out now.
	if fd, err := openPidfd(os.Getpid()); err != nil {
		return nil, &Error{op, length, err}
	} else if err := unix.Close(fd); err != nil {
		return nil, &Error{op, length, os.NewSyscallError("close", err)}
	}

	// The lock keeps the pipe by which os/exec learns of its child's exec out of ours, as far as
	// it goes: os/exec lets go of it shortly before it closes its own writing end.
	syscall.ForkLock.Lock()
	pid, forkTime, err := fork(child, m.mem.addr, length)
	syscall.ForkLock.Unlock()
	if err != nil {
		return nil, &Error{op, length, os.NewSyscallError("fork", err)}
	}
	p := &Process{&process{pid: pid, forkTime: forkTime}}
	fd, err := openPidfd(pid)
	switch {
	case errors.Is(err, unix.ESRCH): // it has ended, and someone else has reaped it
		p.reap.Do(func() { p.err = p.gone(err) })
		return p, nil
	case err != nil:
		// Another thread took the last descriptor. A child that cannot be watched is not kept.
		if wpid, _, err := Waitpid(pid, unix.WNOHANG); wpid == 0 && err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _, _ = Waitpid(pid, 0)
		}
		return nil, &Error{op, length, err}
	}
	p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	runtime.AddCleanup(p, func(p *process) { p.watched() }, p.process)
	return p, nil
}

func openPidfd(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err == unix.EINVAL {
		return -1, fmt.Errorf("%w, needs Linux 5.10 or later", os.NewSyscallError("pidfd_open", err))
	}
	return fd, os.NewSyscallError("pidfd_open", err)
}

// wait waits for the child to end and takes its status. It waits in the runtime's poller, where it
// holds no thread.
func (p *process) wait() {
	defer p.pidfd.Close()

	var wpid int
	var status unix.WaitStatus
	var err error
	ended := func(fd uintptr) bool {
		wpid, status, err = waitPidfd(fd, unix.WEXITED|unix.WNOHANG)
		return wpid != 0 || err != nil
	}
	conn, pollErr := p.pidfd.SyscallConn()
	if pollErr == nil {
		pollErr = conn.Read(ended)
	}
	if pollErr != nil {
		// The poller has no room for it (epoll(7), max_user_watches). So this one costs a thread.
		_ = conn.Control(func(fd uintptr) {
			for !ended(fd) {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			}
		})
	}
	switch {
	case err != nil:
		p.err = p.gone(os.NewSyscallError("waitid", err))
	case status != 0:
		p.err = &ExitError{p.pid, status}
	}
}

// gone is what Wait returns where the child's status cannot be had.
func (p *process) gone(err error) error {
	return fmt.Errorf("shm: wait for child %d: %w: its status is lost, as SIGCHLD is ignored or this program reaped it elsewhere", p.pid, err)
}

// watched returns a channel that is closed once the child is reaped. It does not wait.
func (p *process) watched() <-chan struct{} {
	p.watch.Do(func() {
		p.ended = make(chan struct{})
		go func() {
			defer close(p.ended)
			p.reap.Do(p.wait)
		}()
	})
	return p.ended
}

// Pid returns the child's process id. It is the child's until that is reaped.
func (p *Process) Pid() int { return p.pid }

// ForkTime returns how long fork(2) held the calling thread: what its page tables cost to copy.
func (p *Process) ForkTime() time.Duration { return p.forkTime }

// Wait waits until the child has ended. It returns nil if that was with exit status 0, an
// [*ExitError] if it was otherwise, and the context's error if the context ends first: then the
// child runs on and can be waited for again. Any number of goroutines may wait, any number of
// times, and all get the same answer; a waiting goroutine holds no thread. Where the child was reaped
// by another, or SIGCHLD is ignored, the error wraps ECHILD or ESRCH. See waitid(2).
func (p *Process) Wait(ctx context.Context) error {
	if ctx.Done() == nil { // there is only the child to wait for
		p.reap.Do(p.wait)
		return p.err
	}
	ended := p.watched()
	select {
	case <-ended:
		return p.err
	default:
	}
	select {
	case <-ended:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Signal sends the child a signal, by its pidfd: a process that got the child's pid later is never
// meant. Once the child is reaped it returns [os.ErrProcessDone]. See pidfd_send_signal(2).
func (p *Process) Signal(sig unix.Signal) error {
	err := os.ErrProcessDone
	if conn, connErr := p.pidfd.SyscallConn(); connErr == nil {
		_ = conn.Control(func(fd uintptr) { // fails if reap has closed it
			err = unix.PidfdSendSignal(int(fd), sig, nil, 0)
		})
	}
	if err == unix.ESRCH || err == os.ErrProcessDone {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// Kill sends the child SIGKILL.
func (p *Process) Kill() error { return p.Signal(unix.SIGKILL) }

// ExitError says how a child ended that did not exit with status 0.
type ExitError struct {
	Pid    int
	Status unix.WaitStatus
}

// Error returns, say, "child 4711: exit status 3" or "child 4711: signal: segmentation fault
// (core dumped)".
func (e *ExitError) Error() string {
	if !e.Status.Signaled() {
		return fmt.Sprintf("child %d: exit status %d", e.Pid, e.Status.ExitStatus())
	}
	dumped := ""
	if e.Status.CoreDump() {
		dumped = " (core dumped)"
	}
	return fmt.Sprintf("child %d: signal: %v%s", e.Pid, e.Status.Signal(), dumped)
}
