package shm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Fork forks a child that runs child(addr, length) and then calls _exit(2) with
// the result. addr and length are those of the mapping. A nil cfg means all
// defaults.
//
// Fork returns when the child is set up. Others can use the mapping meanwhile.
//
// The exit status is the low 8 bits of the result. If those bits are 0 and the
// result is not, as with 256, the exit status is 255, because 0 means success.
//
// Child and parent see each other's changes of a Shared mapping. The child has
// a copy of a Private mapping. Resize, MoveTo and Close in one of the two
// processes do not affect the other.
//
// The child has one thread. No signal is blocked, and every signal has its
// default action, except the signals of the crash report. The child inherits
// every open descriptor, unless CloseFDs is set. The reader of a pipe sees the
// end of the pipe only after the child has closed its copy of the writing end.
// So a child can delay the Start of an os/exec command that another goroutine
// starts at the same moment, since Start waits for the end of a pipe. CloseFDs
// prevents the delay. A child that has the descriptors can also remove some
// from the program's epoll instance (epoll_ctl(2)). Then the program's timers
// and network I/O may stop. Set CloseFDs for a child that runs code that you do
// not trust.
//
// The child has a copy of the thread that forked, and of no other thread. If a
// C library has threads of its own and waits for them, the library hangs in the
// child. Some libraries give workers to each thread that uses them, as OpenMP
// does. Such a library works in the child if the thread that forked has never
// used the library. Children with KillWithParent and the children of a [Pool]
// always fulfil that condition, because one thread forks them and does nothing
// else. Other programs can lock the goroutine that forks, or the goroutine that
// uses the library, to a thread: see [runtime.LockOSThread]. A library that has
// one set of workers for the whole program must be used for the first time in
// the child, or handle fork(2) itself (pthread_atfork(3)).
//
// If this process forks while another thread loads a library, the child's
// loader is unusable. When such a child loads a library, glibc ends it with
// "Inconsistency detected by ld.so". Libraries are loaded by dlopen(3), and by
// the first pthread_exit(3), which loads libgcc_s. Load what a child needs
// before the fork, or have the children of a [Pool] load it before other
// threads do.
//
// The child runs C only. If its C calls an exported Go function, the child ends
// with exit status 2, and Wait says why: see [ExitError]. See fork(2).
func (m *Mapping) Fork(child ChildFunc, cfg *ForkConfig) (*Process, error) {
	return m.fork(context.Background(), child, cfg)
}

// fork is Fork. If ctx ends before the child is set up, the child is killed.
func (m *Mapping) fork(ctx context.Context, child ChildFunc, cfg *ForkConfig) (*Process, error) {
	const op = "fork"
	switch length := m.Len(); {
	case length == 0:
		return nil, &Error{op, 0, ErrClosed}
	case child == nil:
		return nil, &Error{op, length, fmt.Errorf("child is nil, must be a C function: %w", unix.EINVAL)}
	}
	p, err := m.startChild(ctx, forkArgs{child: child}, cfg)
	if err != nil {
		return nil, &Error{op, m.Len(), err}
	}
	return p, nil
}

// Call forks a child as [Mapping.Fork] does, and waits for the child. Call
// returns what [Process.Wait] returns. If ctx ends first, Call kills and reaps
// the child, and returns an error that wraps ctx.Err(). That holds while the
// child is being set up, too.
//
// Call leaves no child behind, with two exceptions. One is a program that has
// dropped the privilege to kill the child (setuid(2)). The other is a child
// that does not end at once after SIGKILL: another process traces it
// (ptrace(2)), a busy machine gives it no processor, or it waits in the kernel,
// for example for a file server that does not answer. Then Call returns one
// second after ctx has ended, and the child is reaped when it ends. Call does
// not kill the child's own children, unless ForkConfig.ProcessGroup is set.
func Call(ctx context.Context, child ChildFunc, m *Mapping, cfg *ForkConfig) error {
	if err := ctx.Err(); err != nil {
		return &Error{"call", m.Len(), err}
	}
	p, err := m.fork(ctx, child, cfg)
	if err != nil {
		return err
	}
	return p.waitOrEnd(ctx, m)
}

// waitOrEnd is waitOrKill with the error of a call.
func (p *Process) waitOrEnd(ctx context.Context, m *Mapping) error {
	err := p.waitOrKill(ctx)
	if err != nil && errors.Is(err, ctx.Err()) {
		return &Error{"call", m.Len(), err}
	}
	return err
}

// startChild forks a child of the mapping, and returns when the child is set
// up. args says what the child does, and cfg how the child is set up. cfg may
// be nil. If ctx ends first, the child is killed.
func (m *Mapping) startChild(ctx context.Context, args forkArgs, cfg *ForkConfig) (*Process, error) {
	if cfg == nil {
		cfg = new(ForkConfig)
	}
	var box sandboxOf
	defer func() { box.close() }()
	return args.start(ctx, m, cfg, cfg.Sandbox, &box)
}

// start is startChild. It prepares the sandbox as box, which the caller closes.
func (args *forkArgs) start(ctx context.Context, m *Mapping, cfg *ForkConfig, sandbox *Sandbox,
	box *sandboxOf) (p *Process, err error) {
	defer func() { count(p, err) }()
	keep, err := cfg.addTo(args)
	if err != nil {
		return nil, err
	}
	files, err := cfg.openFiles()
	if err != nil {
		return nil, err
	}
	if files.areUsed() {
		args.flags |= awaitSetUp
	}
	p, err = args.forkWith(m, cfg, sandbox, box, files, keep)
	if p, err = args.setUp(ctx, p, err, box); err == nil && args.flags&serveForks == 0 {
		p.reapIfOwner()
	}
	return p, err
}

// forkWith forks a child that has the files, and begins to copy what the child
// writes to them.
func (args *forkArgs) forkWith(m *Mapping, cfg *ForkConfig, sandbox *Sandbox, box *sandboxOf,
	files *childFiles, keep []int32) (*Process, error) {
	var live *atomic.Int64
	p, err := newProcess(func(owner uint32) (pid int, forkTime time.Duration, err error) {
		// The lock is held for the fork alone. The set-up may take any time. When a child is reaped,
		// package shared mends what the child held, and takes the lock for that.
		m.mu.RLock()
		defer m.mu.RUnlock()
		if m.mem == nil {
			return 0, 0, ErrClosed
		}
		if *box, err = sandbox.prepare(m.mem); err != nil {
			return 0, 0, err
		}
		args.owner = owner
		if err := args.forkOf(m.mem, cfg.Lean, files, args.keepAlso(keep, m.mem, box), box); err != nil {
			return 0, 0, err
		}
		if args.flags&serveForks == 0 {
			live = m.mem.addChild()
		}
		return int(args.pid), time.Duration(args.forkTime), nil
	})
	if err != nil {
		files.abandon()
		removeChild(live)
		return nil, err
	}
	p.outputs = files.copyOutputs()
	p.uses(live)
	return p, nil
}

// forkOf forks a child that has the memory.
func (args *forkArgs) forkOf(mem *memory, isLean bool, files *childFiles, keep []int32,
	box *sandboxOf) error {
	args.addr, args.length = mem.addr, uintptr(mem.length)
	var lean []memoryRange
	if isLean {
		lean = goHeap()
	}
	// os/exec learns of its child's exec by a pipe. The lock keeps most of these pipes out of our
	// child. It is no complete protection: os/exec releases the lock shortly before it closes its
	// own writing end.
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	defer files.forked()
	if err := files.addTo(args); err != nil {
		return err
	}
	if err := args.fork(keep, lean, box.args); err != nil {
		return err
	}
	children.add(int(args.pid)) // before another fork
	return nil
}

// keepAlso adds to the descriptors that the configuration keeps those that the
// child needs for itself. The result is in ascending order.
func (args *forkArgs) keepAlso(keep []int32, mem *memory, box *sandboxOf) []int32 {
	keep = append(keep, box.fds()...)
	slices.Sort(keep)
	if args.flags&closeFDs == 0 {
		return keep
	}
	if !box.opensFiles {
		keep = mem.keepForStat(keep)
	}
	return keep
}

// setUp gives a new child its control page, and waits for its set-up. If ctx
// ends first, the child is killed. err is the error of the fork.
func (args *forkArgs) setUp(ctx context.Context, p *Process, err error,
	box *sandboxOf) (*Process, error) {
	control := newControl(args)
	if err != nil || p.handle.isReaped() {
		control.release()
		return p, err
	}
	p.control = control
	p.leadsGroup = args.flags&processGroup != 0
	if args.flags&awaitSetUp != 0 {
		holds, err := p.awaitSetUp(ctx, args)
		if err != nil {
			return nil, err
		}
		p.sandboxed = box.result(holds)
	}
	return p, nil
}

// uses has the child counted, by addChild, until it is reaped.
func (p *Process) uses(live *atomic.Int64) {
	if p.handle.isReaped() {
		removeChild(live)
		return
	}
	p.liveChildren = live // a pointer that does not keep the Mapping reachable
}

// addTo adds the configuration to args, and returns the descriptors to keep.
func (cfg *ForkConfig) addTo(args *forkArgs) (keep []int32, err error) {
	for _, f := range []struct {
		set  bool
		flag int32
	}{
		{!cfg.NoCrashReport, reportCrash},
		{!cfg.NoOOMScore, oomFirst},
		{cfg.KillWithParent, killWithParent},
		{cfg.ProcessGroup, processGroup},
		{cfg.CloseFDs || cfg.Sandbox != nil, closeFDs},
	} {
		if f.set {
			args.flags |= f.flag
		}
	}
	if int(int32(cfg.Nice)) != cfg.Nice {
		return nil, fmt.Errorf("ForkConfig.Nice is %d, out of the range of a C int: %w", cfg.Nice,
			unix.EINVAL)
	}
	args.nice = int32(cfg.Nice)
	args.arg = cfg.Arg
	if cfg.MemoryLimit < 0 {
		return nil, fmt.Errorf("ForkConfig.MemoryLimit is %d, must not be negative: %w",
			cfg.MemoryLimit, unix.EINVAL)
	}
	args.memoryLimit = uint64(cfg.MemoryLimit)
	if err := args.setLimits(cfg.limits()); err != nil {
		return nil, err
	}
	if args.canFail() {
		args.flags |= awaitSetUp
	}
	return cfg.keepFDs()
}

// openFiles returns the files of a child.
func (cfg *ForkConfig) openFiles() (*childFiles, error) {
	f := &childFiles{stdin: cfg.Stdin, stdout: cfg.Stdout, stderr: cfg.Stderr}
	if err := f.openDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("ForkConfig.Dir: %w", err)
	}
	return f, nil
}

// keepFDs returns the descriptors that CloseFDs leaves open, in ascending order.
func (cfg *ForkConfig) keepFDs() (keep []int32, err error) {
	if len(cfg.KeepFDs) > 0 && !cfg.CloseFDs && cfg.Sandbox == nil {
		return nil, fmt.Errorf("ForkConfig.KeepFDs has %d descriptors, but CloseFDs is not set: %w",
			len(cfg.KeepFDs), unix.EINVAL)
	}
	for _, fd := range cfg.KeepFDs {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || fd > math.MaxInt32 {
			return nil, fmt.Errorf("ForkConfig.KeepFDs: descriptor %d is not open: %w", fd, unix.EBADF)
		}
		keep = append(keep, int32(fd))
	}
	slices.Sort(keep)
	return keep, nil
}

// limits returns the limits of the child. A child that dies of a denied call
// would write a file, its core dump, or have a program of root's take the dump.
// Only a limit of 1 prevents the latter: see core(5).
func (cfg *ForkConfig) limits() []Limit {
	isCore := func(l Limit) bool { return l.Resource == unix.RLIMIT_CORE }
	if cfg.Sandbox == nil || slices.ContainsFunc(cfg.Limits, isCore) {
		return cfg.Limits
	}
	var core unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &core) == nil {
		core.Max = min(core.Max, 1)
		core.Cur = core.Max
	}
	return append(slices.Clone(cfg.Limits), Limit{unix.RLIMIT_CORE, core})
}

// canFail reports whether the child's set-up can fail. Then the child reports
// the result.
func (args *forkArgs) canFail() bool {
	return args.flags&(closeFDs|processGroup) != 0 || args.nice != 0 || args.limitsCount > 0 ||
		args.init != nil || args.memoryLimit != 0
}
