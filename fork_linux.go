package shm

import (
	"context"
	"fmt"
	"math"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ForkConfig holds what [Mapping.Fork] is asked for beyond the child's function. All of it is in
// place when that function begins; where that fails there is no child, and Fork's error names the call.
type ForkConfig struct {
	// KillWithParent: the child dies (SIGKILL) when this process dies, however it dies, or execs. One thread of
	// this process forks all such children, as PR_SET_PDEATHSIG goes by the thread that forked. The thread is made
	// when the program starts. Such a child therefore has the network namespace, affinity, nice value, seccomp
	// filters and capabilities that the program's main thread had then, whichever thread calls Fork. The kernel
	// spares a child if either side changes its user after the fork (setuid(2)).
	KillWithParent bool

	// ProcessGroup: the child leads a process group of its own: setpgid(2). What it forks itself is in the group
	// too. Once the child has ended, however it ended, what is left of the group is killed (SIGKILL), before Wait
	// returns; Kill, and Call at its deadline, kill the group at once. A descendant that has left the group is
	// spared: by setsid(2) or setpgid(2). So are the child's descendants where this process dies first. A terminal's
	// signals, as by Ctrl-C, do not reach the group.
	ProcessGroup bool

	// Lean: leave the Go heap out of the child (MADV_DONTFORK), so that fork does not cost what the heap
	// weighs. To touch Go memory is SIGSEGV for the child then: C code that was handed some to keep,
	// pinned or not, must not use it there. What C code forks itself at that same moment lacks it too.
	Lean bool

	// Limits are set in the child before its function runs: setrlimit(2). Without one for RLIMIT_NOFILE the child has
	// the soft limit of descriptors that the program was started with, unless the program has set another since: Go
	// raises it for itself (see [syscall.Setrlimit]).
	Limits []Limit

	Nice     int   // added to the child's nice value: nice(2)
	CloseFDs bool  // close all descriptors above 2 in the child, but for KeepFDs, and the one for shm_object_length: close_range(2)
	KeepFDs  []int // what CloseFDs leaves open: open descriptors, which without CloseFDs are an error

	// NoOOMScore: leave the child's oom_score_adj as this process has it. Else it is 1000, the highest: when memory
	// runs out, the kernel kills the child before this process, which may weigh more, above all with Lean. What the
	// child forks has it too. Where /proc cannot be written to it stays as it is. See proc_pid_oom_score_adj(5).
	NoOOMScore bool

	// NoCrashReport: leave SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT at their default in the child. Else a
	// handler records where it crashed, for [ExitError], before the child dies of that signal all the same. It
	// opens and reads /proc/self/maps: a child that seccomp(2) would kill for that should do without.
	NoCrashReport bool
}

// Limit is a resource limit, as setrlimit(2) takes it.
type Limit struct {
	Resource int // unix.RLIMIT_*
	Rlimit   unix.Rlimit
}

// Fork forks a child that runs child(addr, length) on its view of the mapping, and ends in
// _exit(2) with what that returns. The exit status has the lowest 8 bits of that value; where they are zero and the
// value is not, as with 256, the status is 255, since 0 is success. A shared mapping is seen by both; of a private one the child
// has a copy. The child's view is its own: Resize, MoveTo and Close on either side leave the other
// as it is. A nil cfg means all defaults.
//
// The child has one thread, every signal at its default but for the crash report's, and none blocked. It
// inherits every open descriptor, unless told to close them, a pipe's writing end too: who reads that pipe
// sees no end before the child ends. An os/exec command that another goroutine is just starting
// can be held up so, as its Start waits on such a pipe; CloseFDs prevents that.
//
// The child has a copy of the thread that forked, and of no other. A C library that has threads of its own, and waits
// for them, hangs in the child. Where each thread that uses the library gets its own workers, as with OpenMP, the child
// is safe if the thread that forked it never used the library. That always holds for children with KillWithParent, and
// for those of a [Pool], as one thread forks them that does nothing else. Otherwise let the goroutine that forks, or
// that uses the library, lock itself to a thread of its own: see [runtime.LockOSThread]. A library with one set of
// workers for the whole program must be used for the first time in the child, or know about fork(2) itself
// (pthread_atfork(3)).
//
// The child runs C alone. If its C calls an exported Go function, the child ends with exit status 2 and Wait says
// why: see [ExitError]. See fork(2).
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
	p, err := startChild(m.mem, forkArgs{child: child, addr: m.mem.addr, length: uintptr(length)}, cfg)
	if err != nil {
		return nil, &Error{op, length, err}
	}
	return p, nil
}

// Call forks a child that runs child(addr, length) on its view of the mapping, as [Mapping.Fork] has it, and waits
// for it. It returns what Wait does. If ctx ends first, Call kills and reaps the child and returns an error that wraps
// ctx.Err().
//
// Call leaves no child behind, with two exceptions: a program that dropped the privilege to kill it (setuid(2)), and a
// child that SIGKILL does not end at once. That is one whose tracer (ptrace(2)) lives on, or one that waits in the
// kernel, as for a file server that does not answer. Call returns a second after ctx's end then, and the child is
// reaped when it ends. What the child has forked itself Call does not see: see ForkConfig.ProcessGroup.
func Call(ctx context.Context, child ChildFunc, m *Mapping, cfg *ForkConfig) error {
	if err := ctx.Err(); err != nil {
		return &Error{"call", m.Len(), err}
	}
	p, err := m.Fork(child, cfg)
	if err != nil {
		return err
	}
	err = p.Wait(ctx)
	if ctx.Err() == nil || err != ctx.Err() {
		return err
	}
	err, ended := p.end(ctx.Err())
	if ended {
		return err // it had ended by itself
	}
	return &Error{"call", m.Len(), err}
}

// startChild forks a child of a mapping. args says what the child does, and cfg how it is set up; cfg may be nil.
func startChild(mem *memory, args forkArgs, cfg *ForkConfig) (p *Process, err error) {
	defer func() { count(p, err) }()
	keep, err := cfg.addTo(&args)
	if err != nil {
		return nil, err
	}
	if args.flags&closeFDs != 0 {
		keep = mem.keepForStat(keep)
	}
	if args.canFail() {
		args.flags |= awaitSetUp
	}
	var lean []memoryRange
	if cfg != nil && cfg.Lean {
		lean = goHeap()
	}
	p, err = args.newProcess(keep, lean)
	if err != nil || p.handle.isReaped() {
		return p, err
	}
	if args.flags&awaitSetUp != 0 {
		if err := p.awaitSetUp(&args); err != nil {
			return nil, err
		}
	}
	if mem.liveChildren != nil {
		mem.liveChildren.Add(1)
		p.liveChildren = mem.liveChildren // which does not keep the Mapping reachable
	}
	return p, nil
}

// newProcess forks a child, which need not be set up yet.
func (args *forkArgs) newProcess(keep []int32, lean []memoryRange) (*Process, error) {
	// The lock keeps the pipe by which os/exec learns of its child's exec out of ours, as far as
	// it goes: os/exec lets go of it shortly before it closes its own writing end.
	p, err := newProcess(func() (pid int, forkTime time.Duration, err error) {
		syscall.ForkLock.Lock()
		defer syscall.ForkLock.Unlock()
		err = args.fork(keep, lean)
		return int(args.pid), time.Duration(args.forkTime), err
	})
	control := newControl(args.control)
	if err != nil || p.handle.isReaped() {
		control.release()
		return p, err
	}
	p.control = control
	p.leadsGroup = args.flags&processGroup != 0
	return p, nil
}

// addTo adds to args how the child is set up, and returns the descriptors to keep; cfg may be nil.
func (cfg *ForkConfig) addTo(o *forkArgs) (keep []int32, err error) {
	if cfg == nil {
		cfg = new(ForkConfig)
	}
	for _, f := range []struct {
		set  bool
		flag int32
	}{
		{!cfg.NoCrashReport, reportCrash},
		{!cfg.NoOOMScore, oomFirst},
		{cfg.KillWithParent, killWithParent},
		{cfg.ProcessGroup, processGroup},
		{cfg.CloseFDs, closeFDs},
	} {
		if f.set {
			o.flags |= f.flag
		}
	}
	if int(int32(cfg.Nice)) != cfg.Nice {
		return nil, fmt.Errorf("ForkConfig.Nice is %d, more than an int of C holds: %w", cfg.Nice, unix.EINVAL)
	}
	o.nice = int32(cfg.Nice)
	if err := o.setLimits(cfg.Limits); err != nil {
		return nil, err
	}
	return cfg.keepFDs()
}

// keepFDs returns the descriptors that CloseFDs is to leave open, in ascending args.
func (cfg *ForkConfig) keepFDs() (keep []int32, err error) {
	if len(cfg.KeepFDs) > 0 && !cfg.CloseFDs {
		return nil, fmt.Errorf("ForkConfig.KeepFDs has %d descriptors, but CloseFDs is not set and closes none: %w", len(cfg.KeepFDs), unix.EINVAL)
	}
	for _, fd := range cfg.KeepFDs {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || fd > math.MaxInt32 {
			return nil, fmt.Errorf("ForkConfig.KeepFDs has %d, which is not open: %w", fd, unix.EBADF)
		}
		keep = append(keep, int32(fd))
	}
	slices.Sort(keep)
	return keep, nil
}

func (args *forkArgs) setLimits(limits []Limit) error {
	if len(limits) > maxLimits {
		return fmt.Errorf("ForkConfig.Limits has %d, more than there are resources: %w", len(limits), unix.EINVAL)
	}
	for i, l := range limits {
		args.limits[i] = forkLimit{int64(l.Resource), uint64(l.Rlimit.Cur), uint64(l.Rlimit.Max)}
		if int(int32(l.Resource)) != l.Resource {
			return fmt.Errorf("ForkConfig.Limits[%d] (%v): the resource is none that setrlimit(2) knows: %w", i, args.limits[i], unix.EINVAL)
		}
	}
	args.limitsCount = int32(len(limits))
	return nil
}

// canFail says whether the child reports how its set-up went.
func (args *forkArgs) canFail() bool {
	return args.flags&(closeFDs|processGroup) != 0 || args.nice != 0 || args.limitsCount > 0
}
