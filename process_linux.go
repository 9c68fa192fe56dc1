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
// an old seccomp(2) filter or by Linux before 5.10, the Process uses the
// process id. Then a child that is waited for holds an OS thread until the
// child ends.
type Process struct{ *process }

// process is the state of a Process. It is a struct of its own, because the
// goroutine that reaps an unreachable Process must not keep the Process
// reachable.
type process struct {
	pid      int
	handle   *childHandle
	forkTime time.Duration
	control  *control // nil if the child has no control page

	failed     bool      // whether the child's set-up has failed: there was no child then
	leadsGroup bool      // whether the child leads a process group
	sandboxed  Sandboxed // what of a Sandbox holds
	owner      uint32    // by which the child holds locks of package shared, or 0
	outputs    []*output // of what the child writes, those that are copied

	liveChildren *atomic.Int64 // the mapping's number of children that are not reaped, or nil

	reap  sync.Once // sets err and usage; err may be read after reap.Do
	err   error
	usage atomic.Pointer[unix.Rusage]

	reaper sync.Once     // makes done, and starts the goroutine that reaps
	done   chan struct{} // closed once the child is reaped
}

func init() {
	hook.NewProcess = func(fork func(uint32) (int, time.Duration, error)) (any, error) {
		p, err := newProcess(fork)
		count(p, err)
		if err == nil {
			p.reapIfOwner()
		}
		return p, err
	}
}

// count counts a fork, or the failure to fork.
func count(p *Process, err error) {
	if err != nil {
		counters.failed()
		return
	}
	counters.forked(p.forkTime)
}

// newProcess calls fork, and returns the child. fork may be a live fork, too.
// The child owns locks of package shared as owner. The caller holds no lock of
// a Mapping: what an owner has left may have to be mended.
func newProcess(
	fork func(owner uint32) (pid int, forkTime time.Duration, err error),
) (*Process, error) {
	// Once there is a child, opening its handle must not fail. So newProcess checks that
	// beforehand.
	if err := canOpenHandle(); err != nil {
		return nil, err
	}
	owner := hook.NewOwner()
	pid, forkTime, err := fork(owner)
	if err != nil {
		hook.OwnerEnded(owner, err)
		return nil, err
	}
	return adopt(pid, forkTime, owner)
}

// adopt returns a child of this process that nobody waits for. If the child
// cannot be waited for, it is killed. The caller holds no lock of a Mapping.
func adopt(pid int, forkTime time.Duration, owner uint32) (p *Process, err error) {
	p = &Process{&process{pid: pid, forkTime: forkTime, owner: owner}}
	p.handle, err = openHandle(pid)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ECHILD): // other code has reaped the child
		children.remove(pid)
		p.handle = &childHandle{pid: pid, owner: processToken(), reaped: true}
		p.reap.Do(func() { p.setResult(p.lostError(err)) })
		return p, nil
	case err != nil:
		// Another thread has taken the last descriptor. The child cannot be waited for: kill it.
		killUnwatched(pid)
		hook.OwnerEnded(owner, err)
		return nil, err
	}
	runtime.AddCleanup(p, func(p *process) { p.reaped() }, p.process)
	return p, nil
}

// setUpInterval is how long awaitSetUp waits by futex(2), which holds a thread,
// until it checks for the end of the child and of the context.
const setUpInterval = 10 * time.Millisecond

// awaitSetUp waits until the child is set up, and returns what of a sandbox
// holds. If the set-up fails, or ctx ends first, awaitSetUp kills the child.
// Wait reports a child that has ended in its set-up.
func (p *Process) awaitSetUp(ctx context.Context, args *forkArgs) (holds int32, err error) {
	report, err := p.readSetUp(ctx)
	if report.state == setUpFailed {
		err = report.failure(args)
	}
	if err == nil {
		return report.sandboxed, nil
	}
	p.failed = true
	if killed, ended := p.end(err); report.state == setUpPending && !ended {
		err = killed
	}
	return 0, err
}

// readSetUp waits for the child's report of its set-up. The report is pending if
// the child has ended, and if ctx ends first.
func (p *Process) readSetUp(ctx context.Context) (report setUpReport, err error) {
	for timeout := setUpInterval; ; {
		report = p.control.page.awaitSetUp(timeout)
		switch {
		case report.state != setUpPending, timeout == 0:
			return report, nil
		case ctx.Err() != nil:
			return report, ctx.Err()
		case p.handle.hasEnded(): // its report may have come just before
			timeout = 0
		}
	}
}

// endedEarly returns how a child has ended that awaitSetUp waited for, in its set-up or in Init.
func (p *Process) endedEarly(ctx context.Context) error {
	if !p.handle.hasEnded() {
		return nil
	}
	if err := p.waitOrKill(ctx); err != nil {
		return fmt.Errorf("PoolConfig.Init: %w", err)
	}
	return fmt.Errorf("PoolConfig.Init: %w", &ExitError{Pid: p.pid})
}

// failure returns the error of a failed set-up.
func (r *setUpReport) failure(args *forkArgs) error {
	call := "set-up"
	if r.call >= 0 && int(r.call) < len(setUpCalls) {
		call = setUpCalls[r.call]
	}
	err := os.NewSyscallError(call, unix.Errno(r.err))
	if r.call >= setUpMmap && r.call <= setUpSeccomp {
		return fmt.Errorf("ForkConfig.Sandbox: %w (set Optional to go without)", err)
	}
	switch r.call {
	case setUpInit:
		return fmt.Errorf("ForkServerConfig.Init returned %d, must be 0", r.which)
	case setUpThreads:
		return fmt.Errorf("ForkServerConfig.Init left %d threads running, a fork server must have one: %w",
			r.which, unix.Errno(r.err))
	case setUpRobustMutex:
		return fmt.Errorf("ForkServerConfig.Init left a robust mutex locked: %w", unix.Errno(r.err))
	case setUpCloneParent, setUpTidAddress, setUpRobustList:
		return fmt.Errorf("%w: %w", errNoServer, err)
	case setUpMemoryLimit:
		return fmt.Errorf("ForkConfig.MemoryLimit is %d: %w", args.memoryLimit, err)
	case setUpDup2:
		return fmt.Errorf("ForkConfig.Stdin, Stdout or Stderr: %w", err)
	case setUpFchdir:
		return fmt.Errorf("ForkConfig.Dir: %w", err)
	}
	if call == "setrlimit" && r.which >= 0 && r.which < args.limitsCount {
		return fmt.Errorf("ForkConfig.Limits[%d] (%v): %w", r.which, args.limits[r.which], err)
	}
	return err
}

// errNoServer is for a kernel or a C library that a fork server does not work
// with.
var errNoServer = fmt.Errorf("this system can have no fork server: %w", errors.ErrUnsupported)

var limitNames = map[int64]string{
	unix.RLIMIT_AS: "RLIMIT_AS", unix.RLIMIT_CORE: "RLIMIT_CORE", unix.RLIMIT_CPU: "RLIMIT_CPU",
	unix.RLIMIT_DATA: "RLIMIT_DATA", unix.RLIMIT_FSIZE: "RLIMIT_FSIZE",
	unix.RLIMIT_LOCKS:   "RLIMIT_LOCKS",
	unix.RLIMIT_MEMLOCK: "RLIMIT_MEMLOCK", unix.RLIMIT_MSGQUEUE: "RLIMIT_MSGQUEUE",
	unix.RLIMIT_NICE: "RLIMIT_NICE", unix.RLIMIT_NOFILE: "RLIMIT_NOFILE",
	unix.RLIMIT_NPROC: "RLIMIT_NPROC", unix.RLIMIT_RSS: "RLIMIT_RSS",
	unix.RLIMIT_RTPRIO: "RLIMIT_RTPRIO", unix.RLIMIT_RTTIME: "RLIMIT_RTTIME",
	unix.RLIMIT_SIGPENDING: "RLIMIT_SIGPENDING", unix.RLIMIT_STACK: "RLIMIT_STACK",
}

// String returns the limit in the form "RLIMIT_AS, soft 4096, hard 8192".
func (l forkLimit) String() string {
	name := limitNames[l.resource]
	if name == "" {
		name = fmt.Sprintf("resource %d", l.resource)
	}
	return fmt.Sprintf("%s, soft %d, hard %d", name, l.cur, l.max)
}

// Pid returns the child's process id. Once the child is reaped, another process
// can have the same id.
func (p *Process) Pid() int { return p.pid }

// ForkTime returns how long fork(2) took in the calling thread. Most of that
// time is the copying of page tables.
func (p *Process) ForkTime() time.Duration { return p.forkTime }

// Sandboxed returns what of ForkConfig.Sandbox holds for the child. Without
// Sandbox.Optional that is all, or there is no child.
func (p *Process) Sandboxed() Sandboxed { return p.sandboxed }

// Wait waits until the child has ended. Wait returns nil if the exit status is
// 0, and an [*ExitError] if the child ended in any other way. If ctx ends
// first, Wait returns ctx.Err(). Then the child still runs, and Wait can be
// called again.
//
// Any number of goroutines may wait, any number of times. All get the same
// result. A waiting goroutine holds no OS thread, unless pidfd_open(2) is
// denied: see [Process]. The error wraps ECHILD or ESRCH if other code has
// reaped the child, or if SIGCHLD is ignored. See waitid(2).
func (p *Process) Wait(ctx context.Context) error {
	if ctx.Done() == nil { // no context to wait for
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

// WaitChange waits until the child is stopped by a signal, is continued, or has
// ended, and returns the new status. Each stop and each continuation is
// reported once: if several goroutines wait, one of them gets it. The end is
// reported to all, and may be reported before an earlier stop. At the end
// WaitChange reaps the child, as Wait does. If ctx ends first, WaitChange
// returns ctx.Err().
//
// WaitChange learns of changes by SIGCHLD. If the program ignores SIGCHLD
// (signal.Ignore), the error wraps ECHILD. See waitid(2), WSTOPPED and
// WCONTINUED.
func (p *Process) WaitChange(ctx context.Context) (unix.WaitStatus, error) {
	if signal.Ignored(unix.SIGCHLD) {
		return 0, fmt.Errorf("shm: wait for a change of child %d: this program ignores SIGCHLD: %w",
			p.pid, unix.ECHILD)
	}
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGCHLD)
	defer signal.Stop(changes)
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
		case <-changes:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// reapIfOwner has the child reaped as soon as it ends, even if nobody waits for
// it, if the child can hold locks. Others may wait for the locks.
func (p *process) reapIfOwner() {
	if p.owner != 0 {
		p.reaped()
	}
}

// reaped returns a channel that is closed once the child is reaped. reaped does
// not wait.
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
	defer removeChild(p.liveChildren)
	var status unix.WaitStatus
	var usage unix.Rusage
	var err error
	p.handle.await(func(id childID) bool {
		// If a thread of this process traces the child, waitid(2) would take the child's stops
		// from that thread.
		if !id.hasEnded() {
			return false
		}
		if p.leadsGroup {
			// Kill the rest of the group first. A child that another process traces cannot be
			// reaped, and the tracer may be in the group.
			p.handle.killGroup()
		}
		var wpid int
		wpid, status, err = p.handle.reap(id, &usage)
		return wpid != 0 || err != nil
	})
	switch {
	case err != nil:
		_ = p.finishOutputs()
		p.setResult(p.lostError(os.NewSyscallError("waitid", err)))
	case status == 0:
		p.usage.Store(&usage)
		p.setResult(p.finishOutputs())
	default:
		p.usage.Store(&usage)
		_ = p.finishOutputs()
		exit := &ExitError{Pid: p.pid, Status: status, CalledGo: p.control.hasCalledGo(status)}
		if p.sandboxed.Filter {
			exit.Denied = p.control.denied(status)
		}
		if exit.Denied == nil {
			exit.Crash = p.control.crash(status)
		}
		p.setResult(exit)
	}
}

// finishOutputs waits until what the child has written is copied.
func (p *process) finishOutputs() (err error) {
	for _, o := range p.outputs {
		if outputErr := o.finish(); outputErr != nil && err == nil {
			err = fmt.Errorf("shm: wait for child %d: %w", p.pid, outputErr)
		}
	}
	return err
}

// setResult sets the result of Wait, once the child is reaped or its status is
// lost.
func (p *process) setResult(err error) {
	hook.OwnerEnded(p.owner, err)
	p.err = err
	p.control.release()
	if !p.failed {
		counters.ended(err)
	}
}

// lostError returns the error of Wait where the child's exit status is lost.
func (p *process) lostError(err error) error {
	return fmt.Errorf("shm: wait for child %d: %w: the exit status is lost: "+
		"SIGCHLD is ignored, or other code of this program has reaped the child", p.pid, err)
}

// Usage returns the resource usage of the child and of those of its own
// children that it waited for. Usage returns nil until the child is reaped. See
// getrusage(2).
func (p *Process) Usage() *unix.Rusage { return p.usage.Load() }

// Memory returns the memory that the child uses now. PrivateDirty counts the
// pages that were copied because the child or its parent wrote to them after
// the fork, and the pages that the child allocated. Once the child has ended,
// the error is [os.ErrProcessDone]. See proc_pid_smaps(5), smaps_rollup.
func (p *Process) Memory() (Memory, error) {
	usage, err := procmaps.Rollup(p.pid)
	// The child is not reaped yet. So the usage is the child's, and not that of another process
	// that got the same process id.
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

// Signal sends a signal to the child. Another process that gets the child's
// process id later does not get the signal. Once the child is reaped, Signal
// returns [os.ErrProcessDone]. See pidfd_send_signal(2), kill(2).
func (p *Process) Signal(sig unix.Signal) error { return p.handle.signal(sig) }

// Kill sends SIGKILL to the child. With ForkConfig.ProcessGroup, Kill sends it
// to the child's whole process group.
func (p *Process) Kill() error {
	err := p.Signal(unix.SIGKILL) // before the group: the child may be reaped as soon as it is killed
	if p.leadsGroup {
		p.handle.killGroup() // unless the child is reaped: then its group was killed before
	}
	return err
}

// waitOrKill waits for the child as Wait does. If ctx ends first, the child is
// killed.
func (p *Process) waitOrKill(ctx context.Context) error {
	err := p.Wait(ctx)
	if ctx.Err() != nil && err == ctx.Err() {
		err, _ = p.end(err)
	}
	return err
}

// end kills the child, and waits until the child is reaped, for
// hook.KillTimeout at most. If the child had ended by itself, ended is true,
// and err is the result of Wait. Otherwise err wraps cause, the reason to kill
// the child.
func (p *Process) end(cause error) (err error, ended bool) {
	if err := p.Kill(); err != nil && err != os.ErrProcessDone {
		return fmt.Errorf("%w; kill child %d: %w", cause, p.pid, err), false
	}
	limit, cancel := context.WithTimeout(context.Background(), hook.KillTimeout)
	defer cancel()
	err = p.Wait(limit)
	switch {
	case err != nil && err == limit.Err():
		return fmt.Errorf("child %d was sent SIGKILL but did not end within %v: %w", p.pid,
			hook.KillTimeout, cause), false
	case !isKilled(err):
		return err, true
	}
	return fmt.Errorf("child %d was killed: %w", p.pid, cause), false
}
