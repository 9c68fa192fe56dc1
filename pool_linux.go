package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
	"forkshm.example/shm/internal/hook"
)

// Pool is a set of children of one Shared mapping that serve calls. Each child
// serves one call at a time. A call to a child that exists costs microseconds,
// and a fork costs hundreds. If a child crashes or a call exceeds its deadline,
// that call fails, and a new child replaces that child.
//
// Each child leads a process group of its own. So a signal to the program's own
// group, such as Ctrl-C in a terminal, does not end calls that the program
// still waits for. Such a child is in the background of the terminal: it is
// stopped if it reads from the terminal. The child's own children are killed
// when the child ends. See setpgid(2).
type Pool struct{ *pool }

// pool is the state of a Pool. It is a struct of its own, because the cleanup
// of an unreachable Pool must not keep the Pool reachable.
type pool struct {
	process uint64 // the token of the process that made the pool: a live fork's child has a copy
	pid     int    // of that process
	m       *Mapping
	ownsM   bool // NewPool made the mapping, because the caller has none
	cfg     PoolConfig
	idle    chan *worker // the workers that serve no call
	once    sync.Once

	life    context.Context // ends by Close: calls that are in progress end
	end     context.CancelFunc
	closing <-chan struct{} // closed then

	draining  chan struct{} // closed by Drain and Close: no call begins
	drainOnce sync.Once

	workers []*worker
	server  *forkServer // nil unless PoolConfig.ForkServer is set

	restartRate restartRate

	calls, failed, restarts, retired atomic.Uint64
}

// worker is a place in a pool for one child at a time.
type worker struct {
	// The call that has acquired the worker sets child, with mu held, and reads
	// child without mu. Others hold mu to read child.
	mu    sync.Mutex
	child *poolChild // nil if there is none
}

// poolChild is one child of a pool. The child can change everything in its
// control page. So the state that calls rely on is here, in this process's own
// memory.
type poolChild struct {
	*Process
	control *control
	slot    slot
	wake    *os.File // this process's end of a socket; the child writes a byte after a reply
	seq     uint32   // the number of the last call
	answer  []byte   // of the last call, in the slot
	used    uint64   // how much of the slot the last call has used for its answer, as the child says

	budget  cpuBudget // of the last call
	overCPU bool      // whether the last call has used it up

	closing <-chan struct{} // the pool's
}

const (
	// futexTimeout is how long a call waits by futex(2), which holds a thread.
	// After that the call waits in the poller, which holds none.
	futexTimeout = 100 * time.Microsecond

	// maxSpurious is the number of wake-ups without a reply after which a call
	// ignores the socket.
	maxSpurious = 8

	// maxChildren is the largest number of processes on Linux: PID_MAX_LIMIT.
	maxChildren = 1 << 22
)

// NewPool forks n children of the mapping. The mapping must be Shared, so that
// the parent sees what the children write. m may be nil if the pool's calls are
// Do and DoView only. A nil cfg means all defaults. The pool does not close the
// mapping. A program that drops privileges (setuid(2)) must do
// so before it calls NewPool: later it may not kill the children. See fork(2),
// futex(2).
func NewPool(m *Mapping, n int, cfg *PoolConfig) (*Pool, error) {
	const op = "pool"
	if cfg == nil {
		cfg = new(PoolConfig)
	}
	ownsM := m == nil
	if ownsM {
		var err error
		if m, err = Map(Shared, 1, nil); err != nil {
			return nil, err
		}
	}
	complete, err := cfg.complete(m, n)
	if err != nil {
		if ownsM {
			_ = m.Close()
		}
		return nil, &Error{op, m.Len(), err}
	}
	p := &Pool{&pool{
		process: processToken(), pid: os.Getpid(), m: m, ownsM: ownsM, cfg: complete,
		idle: make(chan *worker, n), draining: make(chan struct{}),
	}}
	p.life, p.end = context.WithCancel(context.Background())
	p.closing = p.life.Done()
	if cfg.ForkServer {
		p.server, err = newForkServer(m, &ForkServerConfig{Fork: p.cfg.Fork, Init: p.cfg.Init})
		if err != nil {
			_ = p.Close()
			return nil, &Error{op, m.Len(), err}
		}
	}
	for range n {
		w := new(worker)
		p.workers = append(p.workers, w)
		p.idle <- w
		if err := p.start(context.Background(), w); err != nil {
			_ = p.Close()
			return nil, err
		}
	}
	runtime.AddCleanup(p, func(p *pool) { go p.once.Do(func() { _ = p.close() }) }, p.pool)
	return p, nil
}

// complete returns the configuration with its defaults, and an error for a pool
// that cannot be made.
func (cfg PoolConfig) complete(m *Mapping, n int) (_ PoolConfig, err error) {
	switch {
	case n < 1 || n > maxChildren:
		err = fmt.Errorf("%d children, must be from 1 to %d: %w", n, maxChildren, unix.EINVAL)
	case m.Sharing() != Shared:
		err = fmt.Errorf("%v, must be Shared: %w", m.Sharing(), unix.EINVAL)
	case cfg.RestartRate < 0:
		err = fmt.Errorf("RestartRate is %d, must not be negative: %w",
			cfg.RestartRate, unix.EINVAL)
	case cfg.InheritFDs && cfg.Fork.Sandbox != nil:
		err = fmt.Errorf("InheritFDs and Fork.Sandbox are both set (use Fork.KeepFDs): %w",
			unix.EINVAL)
	case cfg.InheritFDs && cfg.ForkServer:
		err = fmt.Errorf("InheritFDs and ForkServer are both set: %w", unix.EINVAL)
	case cfg.MaxCalls < 0:
		err = fmt.Errorf("MaxCalls is %d, must not be negative: %w", cfg.MaxCalls, unix.EINVAL)
	case cfg.InheritFDs && cfg.Fork.CloseFDs:
		err = fmt.Errorf("InheritFDs and Fork.CloseFDs are both set: %w", unix.EINVAL)
	}
	if err != nil {
		return cfg, err
	}
	cfg.Fork.KillWithParent = true
	cfg.Fork.ProcessGroup = true
	cfg.Fork.CloseFDs = !cfg.InheritFDs
	if cfg.RestartRate == 0 {
		cfg.RestartRate = 100
	}
	if err := checkCPUTime(cfg.CPUTime); err != nil {
		return cfg, err
	}
	if cfg.MaxIn, err = slotSize("MaxIn", cfg.MaxIn); err != nil {
		return cfg, err
	}
	cfg.MaxOut, err = slotSize("MaxOut", cfg.MaxOut)
	return cfg, err
}

// start forks a child for a worker that has none. If ctx or the pool ends before the child is set up,
// the child is killed.
func (p *pool) start(ctx context.Context, w *worker) error {
	ctx, cancel := within(ctx, p.life)
	defer cancel()
	const op = "fork"
	const kind = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	ends, err := highfd.OpenPair(func() ([2]int, error) {
		return unix.Socketpair(unix.AF_UNIX, kind, 0)
	})
	if err != nil {
		return &Error{op, p.m.Len(), os.NewSyscallError("socketpair", err)}
	}
	wake := os.NewFile(uintptr(ends[0]), "pool")
	child, err := p.fork(ctx, ends[1])
	_ = unix.Close(ends[1]) // only the child has this end open
	if err != nil {
		_ = wake.Close()
		return err
	}
	c := &poolChild{Process: child, control: child.control, wake: wake, closing: p.closing}
	c.slot = newSlot(c.control, p.cfg.MaxIn, p.cfg.MaxOut)
	w.set(c)
	go func() { // wakes the call that waits for the child, when the child has ended
		<-c.reaped()
		c.wakeUp()
	}()
	return nil
}

// fork forks a child that writes to wakeFD.
func (p *pool) fork(ctx context.Context, wakeFD int) (child *Process, err error) {
	args := forkArgs{flags: serve, wakeFD: int32(wakeFD)}
	args.addSlot(p.cfg.MaxIn, p.cfg.MaxOut)
	if p.server != nil {
		child, err = p.server.fork(ctx, args)
	} else {
		args.init = p.cfg.Init
		if child, err = p.forkHere(ctx, args); err == nil && args.init != nil {
			err = child.endedEarly(ctx)
		}
	}
	if err == nil && !child.control.retain() { // the child is reaped already
		if err = child.Wait(context.Background()); err == nil {
			err = &ExitError{Pid: child.pid} // it called exit(0)
		}
	}
	if err != nil {
		return nil, &Error{"fork", p.m.Len(), err}
	}
	return child, nil
}

// forkHere forks a child from this process.
func (p *pool) forkHere(ctx context.Context, args forkArgs) (*Process, error) {
	cfg := p.cfg.Fork
	if cfg.CloseFDs {
		cfg.KeepFDs = append(slices.Clone(cfg.KeepFDs), int(args.wakeFD))
	}
	return p.m.startChild(ctx, args, &cfg)
}

// set sets the worker's child.
func (w *worker) set(c *poolChild) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.child = c
}

// wakeUp makes await check for the reply, the end of the child, and the end of
// the context.
func (c *poolChild) wakeUp() { _ = c.wake.SetReadDeadline(time.Unix(1, 0)) }

// release frees this process's resources of a child that has ended, or that the
// pool no longer waits for.
func (c *poolChild) release() {
	c.control.release()
	_ = c.wake.Close()
}

// restart waits until RestartRate allows another child, and calls start.
func (p *pool) restart(ctx context.Context, w *worker) error {
	due := p.restartRate.next(p.cfg.RestartRate)
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing:
		return ErrPoolClosed
	}
	if err := p.start(ctx, w); err != nil {
		return err
	}
	p.restarts.Add(1)
	select {
	case <-p.closing: // close may not have seen the child
		return ErrPoolClosed
	default:
		return nil
	}
}

// Call waits for an idle child, has it run child(addr + off, length), and
// returns the function's 32-bit result. addr is the address of the mapping. If
// off and length are not within the mapping, the error is ErrRange. The C
// function must not use descriptors that it did not open: the child reports its
// results by one of them.
//
// If the child ends during the call, the error is an [*ExitError]. If ctx ends
// first, the child is killed, and the error wraps ctx.Err(). In both cases the
// call may be done in part, no other call is affected, and the pool replaces
// the child. The error of a call that no child has begun wraps [ErrNotStarted],
// for example if ctx ends while all children are busy. [WithCallInfo] tells
// which child has served a call. If the pool cannot replace the child, later
// calls return the reason, and try again. Whatever a child writes to the memory
// that it shares, a call ends when its context ends, and other children's calls
// are not affected. Later calls to the same child may be: if a function damages
// the child's memory and returns, they can fail or return a wrong result.
//
// A child has the mapping as it was at the fork: at the same address, with the
// same length. If the mapping has grown by Resize since, the child has the new
// part only if the mapping stayed in place within its Reserve.
func (p *Pool) Call(ctx context.Context, child ChildFunc, off, length int) (int, error) {
	defer runtime.KeepAlive(p)
	const op = "call"
	if err := p.check(child, off, length); err != nil {
		return 0, &Error{op, length, err}
	}
	result := 0
	err := p.run(ctx, &task{
		job: job{requestCall, unsafe.Pointer(child), uintptr(off), uintptr(length)},
		use: func(c *poolChild) error {
			result = c.control.result()
			return nil
		},
	})
	if err != nil {
		return 0, &Error{op, length, err}
	}
	return result, nil
}

// check returns an error for a call that cannot be made.
func (p *pool) check(child ChildFunc, off, length int) error {
	if err := p.checkFunction(unsafe.Pointer(child)); err != nil {
		return err
	}
	p.m.mu.RLock()
	defer p.m.mu.RUnlock()
	switch {
	case p.m.mem == nil:
		return ErrClosed
	case off < 0 || length < 0 || off > p.m.mem.length-length:
		return fmt.Errorf("offset %d: %w of a mapping of %d bytes", off, ErrRange, p.m.mem.length)
	}
	return nil
}

// checkFunction returns an error for a call that cannot be made, whatever its
// arguments are.
func (p *pool) checkFunction(function unsafe.Pointer) error {
	if err := p.checkOwner(); err != nil { // first: the locks in a live fork's copy may stay locked
		return err
	}
	if function == nil {
		return fmt.Errorf("child is nil, must be a C function: %w", unix.EINVAL)
	}
	if p.isDraining() {
		return notStarted{ErrPoolClosed}
	}
	p.m.mu.RLock()
	defer p.m.mu.RUnlock()
	if p.m.mem == nil {
		return ErrClosed
	}
	return nil
}

// task is a call of a pool.
type task struct {
	job
	in  []byte                 // the bytes that go into the child's slot
	use func(*poolChild) error // uses the reply, while no other call can have the child

	cpuTime time.Duration // PoolConfig.CPUTime
}

// run has a child do a task.
func (p *pool) run(ctx context.Context, t *task) (err error) {
	watch := startWatch(ctx)
	w, err := p.acquire(ctx)
	watch.acquired()
	defer watch.ended()
	if err != nil {
		return notStarted{err}
	}
	p.calls.Add(1)
	t.cpuTime = p.cfg.CPUTime
	defer func() { // t.use may panic
		if w.child != nil && p.cfg.MaxCalls > 0 && int(w.child.seq) >= p.cfg.MaxCalls {
			go p.retire(w)
			return
		}
		if err == nil || w.child != nil {
			p.idle <- w
			return
		}
		p.failed.Add(1)
		go p.replace(w)
		err = p.orClosed(err)
	}()
	return p.runBy(ctx, w, t)
}

// orClosed returns the error of a call that Close may have ended.
func (p *pool) orClosed(err error) error {
	select {
	case <-p.closing:
	default:
		return err
	}
	if errors.Is(err, ErrNotStarted) {
		return notStarted{ErrPoolClosed}
	}
	return ErrPoolClosed
}

// retire gives a worker a new child for one that has served MaxCalls calls.
func (p *pool) retire(w *worker) {
	p.retired.Add(1)
	c := w.child
	_ = w.lose()
	c.release()
	_ = p.start(context.Background(), w) // if this fails, the worker's next call tries again
	p.idle <- w
}

// replace gives a worker a new child. If that fails, the worker's next call
// tries again, and returns the error.
func (p *pool) replace(w *worker) {
	_ = p.restart(context.Background(), w)
	p.idle <- w
}

// runBy has the worker's child do a task. If that child has ended before it
// started, a new child does the task.
func (p *pool) runBy(ctx context.Context, w *worker, t *task) (err error) {
	for again := true; again; {
		fresh := w.child == nil
		if fresh {
			if err := p.restart(ctx, w); err != nil {
				return notStarted{err}
			}
		}
		again, err = w.run(ctx, t)
		again = again && !fresh // a new child that does not reach its first call would fail again
	}
	return err
}

// checkOwner returns an error in a live fork's child, which must not use its
// parent's children.
func (p *pool) checkOwner() error {
	if p.process != processToken() {
		return fmt.Errorf("the pool belongs to process %d, and this process is a fork of it: %w",
			p.pid, unix.ECHILD)
	}
	return nil
}

// acquire waits for an idle worker.
func (p *pool) acquire(ctx context.Context) (*worker, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case w := <-p.idle:
		if p.isDraining() {
			p.idle <- w
			return nil, ErrPoolClosed
		}
		return w, nil
	case <-p.draining:
		return nil, ErrPoolClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("no child was free: %w", ctx.Err())
	}
}

// isDraining reports whether calls are refused.
func (p *pool) isDraining() bool {
	select {
	case <-p.draining:
		return true
	default:
		return false
	}
}

// run has the worker's child do a task. If that fails, the child is killed, and
// the worker has no child. again is true if the child did not start, so that
// another child can do the task.
func (w *worker) run(ctx context.Context, t *task) (again bool, err error) {
	c := w.child
	if info := callInfo(ctx); info != nil {
		info.Pid = c.pid
	}
	c.seq++
	c.budget, c.overCPU = c.newCPUBudget(t.cpuTime), false
	copy(c.slot.in, t.in)
	replied := c.control.page.call(c.seq, &t.job, futexTimeout) || c.await(ctx)
	if replied {
		if err = c.takeAnswer(t); err == nil {
			defer c.slot.trim(len(t.in), c.used)
			return false, t.use(c)
		}
	}
	ended := w.lose()
	defer c.release()
	switch {
	case replied:
		return false, err
	case c.control.hasReply(c.seq): // the reply came just before the end
		if err := c.takeAnswer(t); err != nil {
			return false, err
		}
		return false, t.use(c)
	}
	return c.failed(ctx, t, ended)
}

// failed returns the error of a task whose child has ended without a reply.
// again is as for run.
func (c *poolChild) failed(ctx context.Context, t *task, ended error) (again bool, err error) {
	switch {
	case c.overCPU && isKilled(ended):
		return false, fmt.Errorf("child %d was killed: %w of %v", c.pid, ErrCPUTime, t.cpuTime)
	case ctx.Err() != nil && isKilled(ended):
		err = fmt.Errorf("child %d was killed: %w", c.pid, ctx.Err())
		return false, c.orNotStarted(err)
	case ended == nil: // the child called exit(0)
		ended = &ExitError{Pid: c.pid}
	}
	return !c.control.hasStarted(c.seq), c.orNotStarted(ended)
}

// orNotStarted returns the error of a call that the child, which has ended, may
// not have begun.
func (c *poolChild) orNotStarted(err error) error {
	if c.control.hasStarted(c.seq) {
		return err
	}
	return notStarted{err}
}

// lose kills the worker's child, and returns how the child has ended. The
// caller releases the child.
func (w *worker) lose() error {
	limit, cancel := context.WithTimeout(context.Background(), hook.KillTimeout)
	defer cancel()
	err := w.child.stop(limit)
	w.set(nil)
	return err
}

// takeAnswer sets the answer. The error is that of a child that claims more
// bytes than it could get.
func (c *poolChild) takeAnswer(t *task) error {
	c.answer = nil
	if t.kind != requestDo {
		return nil
	}
	length, used := c.control.answer()
	if length > uint64(len(c.slot.out)) {
		return fmt.Errorf("child %d was killed: its answer has %d bytes, PoolConfig.MaxOut is %d: %w",
			c.pid, length, len(c.slot.out), ErrRange)
	}
	c.answer, c.used = c.slot.out[:length:length], max(length, used)
	return nil
}

// stop kills the child, and waits until the child has ended or limit ends.
func (c *poolChild) stop(limit context.Context) error {
	_ = c.Kill()
	err := c.Wait(limit)
	if err != nil && err == limit.Err() {
		return fmt.Errorf("child %d was sent SIGKILL but has not ended yet", c.pid)
	}
	return err
}

// await waits for the reply in the poller. await returns false if the context,
// the child, the pool or the call's processor time ends first.
func (c *poolChild) await(ctx context.Context) bool {
	defer context.AfterFunc(ctx, c.wakeUp)()
	spurious, interval := 0, minCheckInterval
	for {
		// If wakeUp is called before this line, the checks below see the
		// reason. If it is called after this line, it ends the read.
		left := c.budget.left()
		wait := c.budget.interval(left, interval)
		_ = c.wake.SetReadDeadline(time.Now().Add(wait))
		if c.control.hasReply(c.seq) {
			return true
		}
		if left <= 0 {
			c.overCPU = true
			return false
		}
		select {
		case <-c.reaped():
			return c.control.hasReply(c.seq)
		case <-ctx.Done():
			return false
		case <-c.closing:
			return false
		default:
		}
		if spurious < maxSpurious && c.readWake() {
			spurious++
			continue
		}
		if spurious == maxSpurious {
			c.pause(ctx, wait)
		}
		interval = min(2*interval, maxCheckInterval)
	}
}

// readWake waits for a byte from the child, for wakeUp, or for the deadline.
// readWake reports whether the child has sent a byte or has closed its end of
// the socket.
func (c *poolChild) readWake() bool {
	conn, err := c.wake.SyscallConn()
	if err != nil {
		return true
	}
	var bytes [64]byte
	err = conn.Read(func(fd uintptr) bool {
		// The call must never block. A process that inherited this end could
		// make the socket blocking.
		_, _, err := unix.Recvfrom(int(fd), bytes[:], unix.MSG_DONTWAIT)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// pause waits for d, and does not read the socket.
func (c *poolChild) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.reaped():
	case <-ctx.Done():
	case <-c.closing:
	}
}

// Stats returns the pool's counters.
func (p *Pool) Stats() PoolStats {
	return PoolStats{p.calls.Load(), p.failed.Load(), p.restarts.Load(), p.retired.Load()}
}

// Drain lets the calls that are in progress end, and then closes the pool. From
// now on no call begins: calls that wait for a child, and later calls, return
// [ErrPoolClosed]. If ctx ends first, Drain closes the pool at once, and the
// error wraps ctx.Err(). A Close at the same time ends Drain.
func (p *Pool) Drain(ctx context.Context) error {
	const op = "drain"
	if err := p.checkOwner(); err != nil {
		return &Error{op, 0, err}
	}
	late := p.awaitCalls(ctx)
	if err := p.Close(); err != nil {
		return err
	}
	if late != nil {
		return &Error{op, 0, late}
	}
	return nil
}

// awaitCalls refuses new calls, and waits until the others have ended. It
// returns ctx.Err() if ctx ends first, and nil if the pool is closed first.
func (p *pool) awaitCalls(ctx context.Context) error {
	first := false
	p.drainOnce.Do(func() {
		close(p.draining)
		first = true
	})
	var idle []*worker
	defer func() {
		for _, w := range idle {
			p.idle <- w
		}
	}()
	workers := p.idle
	if !first { // another Drain has the workers, until it closes the pool
		workers = nil
	}
	for len(idle) < len(p.workers) {
		select {
		case w := <-workers:
			idle = append(idle, w)
		case <-p.closing:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close kills the children, and returns when they are reaped. Calls that are in
// progress return [ErrPoolClosed], and so do all later calls. A second Close
// returns ErrPoolClosed, too. If a child does not end within a second, for
// example because another process traces it (ptrace(2)), the error names the
// child, and the child is reaped when it ends.
func (p *Pool) Close() error {
	err := ErrPoolClosed
	p.once.Do(func() { err = p.close() })
	if err != nil {
		return &Error{"close", 0, err}
	}
	return nil
}

func (p *pool) close() error {
	if err := p.checkOwner(); err != nil {
		return err
	}
	p.drainOnce.Do(func() { close(p.draining) })
	p.end()
	for _, w := range p.workers { // calls that wait for a child return
		w.mu.Lock()
		if w.child != nil {
			_ = w.child.Kill()
			w.child.wakeUp()
		}
		w.mu.Unlock()
	}
	limit, cancel := context.WithTimeout(context.Background(), hook.KillTimeout)
	defer cancel()
	var remains error
	for range p.workers {
		w := <-p.idle
		c := w.child
		if c == nil {
			continue
		}
		w.set(nil)
		err := c.stop(limit)
		if err != nil && !errors.As(err, new(*ExitError)) && !errors.Is(err, unix.ECHILD) {
			remains = err
		}
		c.release()
	}
	if p.server != nil {
		remains = errors.Join(remains, p.server.close())
	}
	if p.ownsM {
		_ = p.m.Close()
	}
	return remains
}
