package shm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
)

type waitStatus = unix.WaitStatus

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

// The Go faces of what csrc/child.h has.
type forkOrder struct {
	child  ChildFunc
	addr   unsafe.Pointer
	length uintptr

	flags, nice, limitsCount, wakeFD int32
	limits                           [maxLimits]forkLimit

	control *controlPage
	call    unsafe.Pointer
	pid     int32
	held    int64
}

type forkLimit struct {
	resource int64
	cur, max uint64
}

type memoryRange struct{ addr, length uintptr }

const (
	killWithParent = 1 << iota
	reportCrash
	closeFDs
	processGroup
	awaitSetUp
	serve
	oomFirst
)

const maxLimits = 16

// addTo adds to an order how the child is to be set up, and returns the descriptors to keep; cfg may be nil.
func (cfg *ForkConfig) addTo(o *forkOrder) (keep []int32, err error) {
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

// keepFDs returns the descriptors that CloseFDs is to leave open, in ascending order.
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

func (o *forkOrder) setLimits(limits []Limit) error {
	if len(limits) > maxLimits {
		return fmt.Errorf("ForkConfig.Limits has %d, more than there are resources: %w", len(limits), unix.EINVAL)
	}
	for i, l := range limits {
		o.limits[i] = forkLimit{int64(l.Resource), uint64(l.Rlimit.Cur), uint64(l.Rlimit.Max)}
		if int(int32(l.Resource)) != l.Resource {
			return fmt.Errorf("ForkConfig.Limits[%d] (%v): the resource is none that setrlimit(2) knows: %w", i, o.limits[i], unix.EINVAL)
		}
	}
	o.limitsCount = int32(len(limits))
	return nil
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

// canFail says whether the child reports how its set-up went.
func (o *forkOrder) canFail() bool {
	return o.flags&(closeFDs|processGroup) != 0 || o.nice != 0 || o.limitsCount > 0
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
	parent   uint64 // the token of the process that forked it: a live fork's child has a copy of all this
	pidfd    *os.File
	forkTime time.Duration
	control  *control // nil if there is none

	group *group // nil unless the child leads one

	live *atomic.Int64 // counts the children of its mapping that are not reaped, or nil

	reap  sync.Once // sets what follows, which all who went through it may read
	err   error
	usage atomic.Pointer[unix.Rusage]

	watch sync.Once     // makes ended, and has a goroutine reap
	ended chan struct{} // closed once reaped
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
	p, err := startChild(m.mem, forkOrder{child: child, addr: m.mem.addr, length: uintptr(length)}, cfg)
	if err != nil {
		return nil, &Error{op, length, err}
	}
	return p, nil
}

// startChild forks a child of a mapping that does what the order says, set up as cfg has it.
func startChild(mem *memory, order forkOrder, cfg *ForkConfig) (p *Process, err error) {
	defer func() { counters.count(p, err) }()
	keep, err := cfg.addTo(&order)
	if err != nil {
		return nil, err
	}
	if order.flags&closeFDs != 0 {
		keep = mem.keepForStat(keep)
	}
	if order.canFail() {
		order.flags |= awaitSetUp
	}
	var lean []memoryRange
	if cfg != nil && cfg.Lean {
		lean = goHeap()
	}
	// The lock keeps the pipe by which os/exec learns of its child's exec out of ours, as far as
	// it goes: os/exec lets go of it shortly before it closes its own writing end.
	p, err = newProcess(func() (pid int, held time.Duration, err error) {
		syscall.ForkLock.Lock()
		defer syscall.ForkLock.Unlock()
		err = order.fork(keep, lean)
		return int(order.pid), time.Duration(order.held), err
	})
	control := newControl(order.control)
	if err != nil || p.pidfd == nil {
		control.release()
		return p, err
	}
	p.control = control
	if order.flags&processGroup != 0 {
		p.group = &group{leader: p.pid}
	}
	if order.flags&awaitSetUp != 0 {
		if err := p.awaitSetUp(&order); err != nil {
			return nil, err
		}
	}
	if mem.live != nil {
		mem.live.Add(1)
		p.live = mem.live // which does not keep the Mapping reachable
	}
	return p, nil
}

func init() {
	hook.Locks = append(hook.Locks, &counters.Mutex, &symbolTables.Mutex, &moving, &telling)
	hook.NewProcess = func(fork func() (int, time.Duration, error)) (any, error) {
		p, err := newProcess(fork)
		counters.count(p, err)
		return p, err
	}
}

// newProcess returns the child that fork makes, whatever kind of fork it is.
func newProcess(fork func() (pid int, held time.Duration, err error)) (*Process, error) {
	// Once there is a child its pidfd must be had. What would prevent it is found out now.
	if fd, err := openPidfd(os.Getpid()); err != nil {
		return nil, err
	} else if err := unix.Close(fd); err != nil {
		return nil, os.NewSyscallError("close", err)
	}
	pid, held, err := fork()
	if err != nil {
		return nil, err
	}
	p := &Process{&process{pid: pid, parent: processToken(), forkTime: held}}
	fd, err := openChild(pid)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ECHILD): // it has ended, and someone else has reaped it
		p.reap.Do(func() { p.finish(p.gone(err)) })
		return p, nil
	case err != nil:
		// Another thread took the last descriptor. A child that cannot be watched is not kept.
		if wpid, _, err := Waitpid(pid, unix.WNOHANG); wpid == 0 && err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			for err = unix.EINTR; err == unix.EINTR; {
				_, _, err = Waitpid(pid, 0)
			}
		}
		return nil, err
	}
	p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	runtime.AddCleanup(p, func(p *process) { p.watched() }, p.process)
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

// awaitSetUp waits until the child is set up. A child that could not be set up is reaped.
func (p *process) awaitSetUp(order *forkOrder) (err error) {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	_ = conn.Control(func(fd uintptr) {
		report := p.control.awaitSetUp(fd)
		if report.state != setUpFailed {
			return // a child that was killed meanwhile is Wait's to tell
		}
		err = report.failure(order)
		_ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) // it is ending anyway, unless it is stopped
		for reaped := error(unix.EINTR); reaped == unix.EINTR; {
			_, _, reaped = Waitpid(p.pid, 0) // not by the pidfd, which does not wait (PIDFD_NONBLOCK)
		}
	})
	if err != nil {
		p.reap.Do(func() {
			p.err = err
			p.control.release()
			_ = p.pidfd.Close()
		})
	}
	return err
}

// openChild is openPidfd of a child of this process. If another has reaped the child already, its pid may be another
// process's by now: then the error is ESRCH or ECHILD.
func openChild(pid int) (int, error) {
	fd, err := openPidfd(pid)
	if err != nil {
		return -1, err
	}
	if _, _, err := waitPidfd(uintptr(fd), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("waitid", err)
	}
	return fd, nil
}

func openPidfd(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err == nil {
		return fd, nil
	}
	failed := os.NewSyscallError("pidfd_open", err)
	switch err {
	case unix.EINVAL, unix.ENOSYS:
		return -1, fmt.Errorf("%w, needs Linux 5.10 or later", failed)
	case unix.EPERM, unix.EACCES:
		return -1, fmt.Errorf("%w: a seccomp filter forbids it; Docker's allows it from version 20.10 on", failed)
	}
	return -1, failed
}

// wait waits for the child to end and takes its status. It waits in the runtime's poller, where it
// holds no thread.
func (p *process) wait() {
	defer p.pidfd.Close()
	if p.live != nil {
		defer p.live.Add(-1)
	}

	var wpid int
	var status unix.WaitStatus
	var usage unix.Rusage
	var err error
	ended := func(fd uintptr) bool {
		if p.group == nil {
			wpid, status, err = waitPidfd(fd, unix.WEXITED|unix.WNOHANG, &usage)
		} else if p.group.killRest(int(fd)) {
			p.group.mu.Lock()
			defer p.group.mu.Unlock()
			wpid, status, err = waitPidfd(fd, unix.WEXITED|unix.WNOHANG, &usage)
			p.group.reaped = wpid != 0 || err != nil
		}
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
	if err != nil {
		p.finish(p.gone(os.NewSyscallError("waitid", err)))
		return
	}
	p.usage.Store(&usage)
	if status == 0 {
		p.finish(nil)
		return
	}
	p.finish(&ExitError{p.pid, status, p.control.crash(status), p.control.hasCalledGo(status)})
}

// finish sets what Wait returns. The child is gone.
func (p *process) finish(err error) {
	p.err = err
	p.control.release()
	counters.ended(err)
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
	ended := p.watched()
	for {
		var wpid int
		var status unix.WaitStatus
		if conn, err := p.pidfd.SyscallConn(); err == nil {
			_ = conn.Control(func(fd uintptr) { // fails once the child is reaped
				wpid, status, _ = waitPidfd(fd, unix.WSTOPPED|unix.WCONTINUED|unix.WNOHANG, nil)
			})
		}
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

// Usage returns what the child used of time, memory and the like, with what those of its own children
// used that it waited for; nil until it is reaped. See getrusage(2).
func (p *Process) Usage() *unix.Rusage { return p.usage.Load() }

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

// Kill sends SIGKILL to the child, and with ForkConfig.ProcessGroup to all of its process group.
func (p *Process) Kill() error {
	if conn, err := p.pidfd.SyscallConn(); err == nil && p.group != nil {
		_ = conn.Control(func(fd uintptr) { p.group.kill(int(fd)) })
	}
	return p.Signal(unix.SIGKILL) // a child may have left its group
}

// group is the process group that a child leads. The group's id is the child's process id, which can be another's once
// the child is reaped. So reaping and killing exclude each other.
type group struct {
	leader int

	mu     sync.Mutex
	reaped bool
}

const pidfdSignalProcessGroup = 4 // PIDFD_SIGNAL_PROCESS_GROUP of pidfd_send_signal(2), Linux 6.9

// kill kills what is in the group.
func (g *group) kill(pidfd int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, pidfdSignalProcessGroup)
	if err == unix.EINVAL && !g.reaped { // before Linux 6.9
		_ = unix.Kill(-g.leader, unix.SIGKILL)
	}
}

// killRest kills what is left of the group if its leader has ended, and says whether it has. What is left may trace
// the leader (ptrace(2)), which cannot be reaped as long as it does.
func (g *group) killRest(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 0); n != 1 || err != nil {
		return false
	}
	g.kill(pidfd)
	return true
}
