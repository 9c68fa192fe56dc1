package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/procmaps"
)

// Process is a child that [Mapping.Fork] made. Wait for the child, as for any
// child: a child that has ended stays as a zombie until then. The child of a
// Process that becomes unreachable is reaped when the child ends.
//
// A Process reaps its own child alone, and leaves the program's other children
// to their owners. Do not reap the child by its process id.
//
// A Process refers to its child by a pidfd. Where pidfd_open(2) is denied, by
// an old seccomp(2) filter or by Linux before 5.10, the Process uses the process
// id. Then a child that is waited for holds an OS thread until the child ends.
type Process struct{ *process }

// process is what a Process stands for. It lives apart from it, as what reaps an unreachable Process
// must not hold the Process itself.
type process struct {
	pid      int
	handle   *childHandle
	forkTime time.Duration
	control  *control // nil if there is none

	leadsGroup bool // whether the child leads a process group

	liveChildren *atomic.Int64 // counts the children of its mapping that are not reaped, or nil

	reap  sync.Once // sets what follows, which all who went through it may read
	err   error
	usage atomic.Pointer[unix.Rusage]

	reaper sync.Once     // makes ended, and has a goroutine reap
	done   chan struct{} // closed once reaped
}

func init() {
	hook.NewProcess = func(fork func() (int, time.Duration, error)) (any, error) {
		p, err := newProcess(fork)
		count(p, err)
		return p, err
	}
}

// count counts a fork that was tried.
func count(p *Process, err error) {
	if err != nil {
		counters.failed()
		return
	}
	counters.forked(p.forkTime)
}

// newProcess returns the child that fork makes. The fork may be of any kind.
func newProcess(fork func() (pid int, forkTime time.Duration, err error)) (*Process, error) {
	// Once there is a child, its handle must be had. Whatever would prevent that is found out now.
	if err := canOpenHandle(); err != nil {
		return nil, err
	}
	pid, forkTime, err := fork()
	if err != nil {
		return nil, err
	}
	p := &Process{&process{pid: pid, forkTime: forkTime}}
	p.handle, err = openHandle(pid)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ECHILD): // it has ended, and another has reaped it
		p.handle = &childHandle{pid: pid, owner: processToken(), reaped: true}
		p.reap.Do(func() { p.setResult(p.lostError(err)) })
		return p, nil
	case err != nil:
		// Another thread took the last descriptor. A child that cannot be waited for is not kept.
		killUnwatched(pid)
		return nil, err
	}
	runtime.AddCleanup(p, func(p *process) { p.reaped() }, p.process)
	return p, nil
}

// awaitSetUp waits until the child is set up. A child that could not be set up is reaped.
func (p *process) awaitSetUp(args *forkArgs) (err error) {
	_ = p.handle.use(func(id childID) { // nobody else knows the child yet
		report := p.control.page.awaitSetUp(id.idType, id.id)
		if report.state == setUpFailed { // else a child that was killed meanwhile is Wait's to tell
			err = report.failure(args)
		}
	})
	if err != nil {
		p.reap.Do(func() {
			p.err = err
			p.handle.killAndReap() // the child ends by itself, unless it is stopped
			p.control.release()
		})
	}
	return err
}

// failure returns what failed in the set-up of a child that was ordered.
func (r *setUpReport) failure(o *forkArgs) error {
	call := "set-up"
	if r.call >= 0 && int(r.call) < len(setUpCalls) {
		call = setUpCalls[r.call]
	}
	err := os.NewSyscallError(call, unix.Errno(r.err))
	if call == "setrlimit" && r.which >= 0 && r.which < o.limitsCount {
		return fmt.Errorf("ForkConfig.Limits[%d] (%v): %w", r.which, o.limits[r.which], err)
	}
	return err
}

var limitNames = map[int64]string{
	unix.RLIMIT_AS: "RLIMIT_AS", unix.RLIMIT_CORE: "RLIMIT_CORE", unix.RLIMIT_CPU: "RLIMIT_CPU",
	unix.RLIMIT_DATA: "RLIMIT_DATA", unix.RLIMIT_FSIZE: "RLIMIT_FSIZE", unix.RLIMIT_LOCKS: "RLIMIT_LOCKS",
	unix.RLIMIT_MEMLOCK: "RLIMIT_MEMLOCK", unix.RLIMIT_MSGQUEUE: "RLIMIT_MSGQUEUE", unix.RLIMIT_NICE: "RLIMIT_NICE",
	unix.RLIMIT_NOFILE: "RLIMIT_NOFILE", unix.RLIMIT_NPROC: "RLIMIT_NPROC", unix.RLIMIT_RSS: "RLIMIT_RSS",
	unix.RLIMIT_RTPRIO: "RLIMIT_RTPRIO", unix.RLIMIT_RTTIME: "RLIMIT_RTTIME",
	unix.RLIMIT_SIGPENDING: "RLIMIT_SIGPENDING", unix.RLIMIT_STACK: "RLIMIT_STACK",
}

// String returns, say, "RLIMIT_AS, soft 4096, hard 8192".
func (l forkLimit) String() string {
	name := limitNames[l.resource]
	if name == "" {
		name = fmt.Sprintf("resource %d", l.resource)
	}
	return fmt.Sprintf("%s, soft %d, hard %d", name, l.cur, l.max)
}

// Pid returns the child's process id. It is the child's until that is reaped.
func (p *Process) Pid() int { return p.pid }

// ForkTime returns how long fork(2) held the calling thread: what its page tables cost to copy.
func (p *Process) ForkTime() time.Duration { return p.forkTime }

// Wait waits until the child has ended. It returns nil if that was with exit status 0, an
// [*ExitError] if it was otherwise, and the context's error if the context ends first: then the
// child runs on and can be waited for again. Any number of goroutines may wait, any number of
// times, and all get the same answer. A waiting goroutine holds no thread, unless pidfd_open(2) is denied
// (see [Process]): then each child that is waited for holds one. Where the child was reaped
// by another, or SIGCHLD is ignored, the error wraps ECHILD or ESRCH. See waitid(2).
func (p *Process) Wait(ctx context.Context) error {
	if ctx.Done() == nil { // there is only the child to wait for
		p.reap.Do(p.wait)
		return p.err
	}
	ended := p.reaped()
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

// WaitChange waits until the child is stopped by a signal, is continued, or has ended, and returns which.
// Each stop and each continuation is told once: of several who wait, one gets it. The end is told to all,
// and may be told before a stop is; it reaps the child, as Wait does. Like Wait it returns the context's error
// if the context ends first. It learns of changes by SIGCHLD: a program that ignores that (signal.Ignore)
// gets ECHILD. See waitid(2), WSTOPPED and WCONTINUED.
func (p *Process) WaitChange(ctx context.Context) (unix.WaitStatus, error) {
	if signal.Ignored(unix.SIGCHLD) {
		return 0, fmt.Errorf("shm: wait for a change of child %d: this program ignores SIGCHLD: %w", p.pid, unix.ECHILD)
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGCHLD)
	defer signal.Stop(told)
	ended := p.reaped()
	for {
		var wpid int
		var status unix.WaitStatus
		_ = p.handle.use(func(id childID) { // fails once the child is reaped
			wpid, status, _ = id.wait(unix.WSTOPPED|unix.WCONTINUED|unix.WNOHANG, nil)
		})
		if wpid != 0 {
			return status, nil
		}
		select {
		case <-ended:
			var exit *ExitError
			if errors.As(p.err, &exit) {
				return exit.Status, nil
			}
			return 0, p.err
		case <-told:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// reaped returns a channel that is closed once the child is reaped. reaped does not wait.
func (p *process) reaped() <-chan struct{} {
	p.reaper.Do(func() {
		p.done = make(chan struct{})
		go func() {
			defer close(p.done)
			p.reap.Do(p.wait)
		}()
	})
	return p.done
}

// wait waits for the child to end, and takes the child's status.
func (p *process) wait() {
	defer p.handle.close()
	if p.liveChildren != nil {
		defer p.liveChildren.Add(-1)
	}
	var status unix.WaitStatus
	var usage unix.Rusage
	var err error
	p.handle.await(func(id childID) bool {
		if p.leadsGroup {
			// What is left of the group may trace the child, which cannot be reaped as long as it does.
			if !id.hasEnded() {
				return false
			}
			p.handle.killGroup()
		}
		var wpid int
		wpid, status, err = p.handle.reap(id, &usage)
		return wpid != 0 || err != nil
	})
	switch {
	case err != nil:
		p.setResult(p.lostError(os.NewSyscallError("waitid", err)))
	case status == 0:
		p.usage.Store(&usage)
		p.setResult(nil)
	default:
		p.usage.Store(&usage)
		p.setResult(&ExitError{p.pid, status, p.control.crash(status), p.control.hasCalledGo(status)})
	}
}

// finish sets what Wait returns. The child is gone.
func (p *process) setResult(err error) {
	p.err = err
	p.control.release()
	counters.ended(err)
}

// gone is what Wait returns where the child's status cannot be had.
func (p *process) lostError(err error) error {
	return fmt.Errorf("shm: wait for child %d: %w: its status is lost, as SIGCHLD is ignored or this program reaped it elsewhere", p.pid, err)
}

// Usage returns what the child used of time, memory and the like, with what those of its own children
// used that it waited for; nil until it is reaped. See getrusage(2).
func (p *Process) Usage() *unix.Rusage { return p.usage.Load() }

// Memory returns what the child has in memory now. PrivateDirty is what it, or its parent, wrote to since the
// fork, and that was so copied on write, with what it allocated itself. Once the child has ended the error is
// [os.ErrProcessDone]. See proc_pid_smaps(5), smaps_rollup.
func (p *Process) Memory() (Memory, error) {
	usage, err := procmaps.Rollup(p.pid)
	// The child is still there, so it was there all the time: the usage is not that of another process with its pid.
	if err := p.Signal(0); err != nil {
		return Memory{}, err
	}
	if errors.Is(err, unix.ESRCH) { // a zombie has no memory
		return Memory{}, os.ErrProcessDone
	}
	if err != nil {
		return Memory{}, err
	}
	return Memory{
		Rss:          clampInt(usage.Rss),
		Pss:          clampInt(usage.Pss),
		PrivateDirty: clampInt(usage.PrivateDirty),
		Swap:         clampInt(usage.Swap),
	}, nil
}

// Signal sends the child a signal. A process that got the child's process id later never gets the signal. Once the child
// is reaped, Signal returns [os.ErrProcessDone]. See pidfd_send_signal(2), kill(2).
func (p *Process) Signal(sig unix.Signal) error { return p.handle.signal(sig) }

// Kill sends SIGKILL to the child. With ForkConfig.ProcessGroup, Kill sends it to all of the child's process group.
func (p *Process) Kill() error {
	if p.leadsGroup {
		p.handle.killGroup()
	}
	return p.Signal(unix.SIGKILL) // a child may have left its group
}

// killGrace is how long a child that was sent SIGKILL may take to end. Usually it takes the kernel microseconds, and
// milliseconds for each GiB of the child's memory.
const killGrace = time.Second

// end kills the child and waits until it is reaped, but for killGrace at most. Where the child had ended by itself, err
// is what Wait returns, and ended is true. Else err wraps cause, the reason to kill the child.
func (p *Process) end(cause error) (err error, ended bool) {
	if err := p.Kill(); err != nil && err != os.ErrProcessDone {
		return fmt.Errorf("%w, and child %d cannot be killed: %w", cause, p.pid, err), false
	}
	grace, cancel := context.WithTimeout(context.Background(), killGrace)
	defer cancel()
	err = p.Wait(grace)
	switch {
	case err != nil && err == grace.Err():
		return fmt.Errorf("child %d was sent SIGKILL, and has not ended within %v: %w", p.pid, killGrace, cause), false
	case !isKilled(err):
		return err, true
	}
	return fmt.Errorf("child %d is killed: %w", p.pid, cause), false
}
