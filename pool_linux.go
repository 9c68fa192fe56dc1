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

	"golang.org/x/sys/unix"
)

// PoolConfig holds what [NewPool] is asked for beyond the number of children.
type PoolConfig struct {
	// Fork is how each child is set up. KillWithParent and ProcessGroup are always set. So is CloseFDs, unless
	// InheritFDs is.
	Fork ForkConfig

	// InheritFDs: children inherit all descriptors of this process that are open when they are forked. Otherwise they
	// have 0, 1, 2 and Fork.KeepFDs alone. A pool's children live long: an inherited socket stays open until they end,
	// and a child that was taken over can disturb all that it inherited.
	InheritFDs bool

	// RestartRate is how many children a second may be forked to replace lost ones, after as many at once;
	// 0 means 100. Calls wait meanwhile, so that children which crash at once do not make the program fork all the time.
	RestartRate int
}

// Pool is a number of children of one shared mapping that serve calls, one after another each. A call
// to a child that is there already costs microseconds, where a fork costs hundreds. What a crash, or a deadline
// missed, costs is that call and that child, which is replaced by a fresh one.
//
// Each child leads a process group of its own, so that a signal to the program's group, such as Ctrl-C in a terminal,
// does not end calls that the program still waits for. Such a child is in the background of the terminal: it is
// stopped if it reads from that. What the child has forked itself is killed when the child ends. See setpgid(2).
type Pool struct{ *pool }

// pool lives apart from its Pool, as the cleanup of an unreachable Pool must not hold the Pool itself.
type pool struct {
	process uint64 // whose pool it is, by its token, and not that of a copy by a live fork
	pid     int    // of that process
	m       *Mapping
	cfg     PoolConfig
	idle    chan *worker // those that no call has
	closing chan struct{}
	once    sync.Once

	workers []*worker

	mu  sync.Mutex
	due time.Time // when the next restart would be, at the rate alone

	calls, failed, restarts atomic.Uint64
}

// worker is a place in a pool for one child, and for its successors.
type worker struct {
	mu    sync.Mutex // held to set child, by the call that has the worker, and by others to read it
	child *poolChild // nil if there is none
}

// poolChild is one child of a pool. All that calls rely on is here, in this process's memory: what is in the control
// page the child can change.
type poolChild struct {
	*Process
	control *control
	wake    *os.File // this process's end of a socket by which the child says that it has answered
	seq     uint32   // of the last call

	closing <-chan struct{} // the pool's
}

const (
	// futexTime is for how long a call waits on its thread. A longer one waits in the poller, where it holds none.
	futexTime = 100 * time.Microsecond

	// A waiting call looks for the answer now and then, even if nothing wakes it: a child that was taken over, or
	// another that has the socket, too, may have taken the wake-up away.
	firstLook = 10 * time.Millisecond
	lastLook  = time.Second

	// maxNoise is how many wake-ups without an answer a call bears before it only looks now and then.
	maxNoise = 8

	// maxChildren is as many processes as Linux can have: PID_MAX_LIMIT.
	maxChildren = 1 << 22
)

// NewPool forks n children of the mapping, which must be Shared, as a child's answers would be its own
// else. A nil cfg means all defaults. The pool uses the mapping, and does not close it. A program that gives up
// privileges (setuid(2)) does so before: later it may not kill these children. See fork(2), futex(2).
func NewPool(m *Mapping, n int, cfg *PoolConfig) (*Pool, error) {
	const op = "pool"
	if cfg == nil {
		cfg = new(PoolConfig)
	}
	switch {
	case n < 1 || n > maxChildren:
		return nil, &Error{op, m.Len(), fmt.Errorf("%d children, must be from 1 to %d: %w", n, maxChildren, unix.EINVAL)}
	case m.Sharing() != Shared:
		return nil, &Error{op, m.Len(), fmt.Errorf("%v, must be Shared: %w", m.Sharing(), unix.EINVAL)}
	case cfg.RestartRate < 0:
		return nil, &Error{op, m.Len(), fmt.Errorf("RestartRate %d: %w", cfg.RestartRate, unix.EINVAL)}
	case cfg.InheritFDs && cfg.Fork.CloseFDs:
		return nil, &Error{op, m.Len(), fmt.Errorf("both InheritFDs and Fork.CloseFDs: %w", unix.EINVAL)}
	}
	p := &Pool{&pool{process: processToken(), pid: os.Getpid(), m: m, cfg: *cfg, idle: make(chan *worker, n), closing: make(chan struct{})}}
	p.cfg.Fork.KillWithParent = true
	p.cfg.Fork.ProcessGroup = true
	p.cfg.Fork.CloseFDs = !cfg.InheritFDs
	if p.cfg.RestartRate == 0 {
		p.cfg.RestartRate = 100
	}
	for range n {
		w := new(worker)
		p.workers = append(p.workers, w)
		p.idle <- w
		if err := p.start(w); err != nil {
			_ = p.Close()
			return nil, err
		}
	}
	runtime.AddCleanup(p, func(p *pool) { go p.once.Do(func() { _ = p.close() }) }, p.pool)
	return p, nil
}

// start forks a child for a worker that has none.
func (p *pool) start(w *worker) error {
	const op = "fork"
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return &Error{op, p.m.Len(), os.NewSyscallError("socketpair", err)}
	}
	wake := os.NewFile(uintptr(ends[0]), "pool")
	child, err := p.fork(ends[1])
	_ = unix.Close(ends[1]) // it is the child's alone
	if err != nil {
		_ = wake.Close()
		return err
	}
	c := &poolChild{Process: child, control: child.control, wake: wake, closing: p.closing}
	w.set(c)
	go func() { // who awaits its answer is told of its end
		<-c.reaped()
		c.wakeUp()
	}()
	return nil
}

// fork forks a child that has that end of its socket.
func (p *pool) fork(wakeFD int) (*Process, error) {
	const op = "fork"
	cfg := p.cfg.Fork
	if cfg.CloseFDs {
		cfg.KeepFDs = append(slices.Clone(cfg.KeepFDs), wakeFD)
	}
	p.m.mu.RLock()
	defer p.m.mu.RUnlock()
	if p.m.mem == nil {
		return nil, &Error{op, 0, ErrClosed}
	}
	args := forkArgs{addr: p.m.mem.addr, length: uintptr(p.m.mem.length), flags: serve, wakeFD: int32(wakeFD)}
	child, err := startChild(p.m.mem, args, &cfg)
	if err == nil && child.control == nil {
		err = child.Wait(context.Background()) // another has reaped it already
	}
	if err != nil {
		return nil, &Error{op, p.m.mem.length, err}
	}
	child.control.retain()
	return child, nil
}

func (w *worker) set(c *poolChild) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.child = c
}

// wakeUp makes await look.
func (c *poolChild) wakeUp() { _ = c.wake.SetReadDeadline(time.Unix(1, 0)) }

// release gives up what this process has of a child that has ended, or that cannot be waited for longer.
func (c *poolChild) release() {
	c.control.release()
	_ = c.wake.Close()
}

// restart is start, at the pool's rate.
func (p *pool) restart(ctx context.Context, w *worker) error {
	interval := time.Second / time.Duration(p.cfg.RestartRate)
	now := time.Now()
	p.mu.Lock()
	if burst := now.Add(-time.Second); p.due.Before(burst) {
		p.due = burst
	}
	p.due = p.due.Add(interval)
	timer := time.NewTimer(p.due.Sub(now))
	p.mu.Unlock()
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing:
		return ErrPoolClosed
	}
	if err := p.start(w); err != nil {
		return err
	}
	p.restarts.Add(1)
	select {
	case <-p.closing: // perhaps too late for close to have seen the child
		return ErrPoolClosed
	default:
		return nil
	}
}

// Call has a child run child(address of the mapping + off, length), and returns what that returns, 32 bits of it. It
// waits for a child that is free. An off and length beyond the mapping are ErrRange. The C function leaves alone what
// descriptors it did not open: by one of them the child says that it is done.
//
// A child that ends instead makes it an [*ExitError]; if the context ends first, the child is killed and the error
// wraps the context's. In both cases the call may have been done in part, no other call is affected, and the child
// is replaced. Where that cannot be done the calls that follow say why, and try anew. Whatever the child writes to
// memory that it shares, a call ends when its context does, and a wrong answer is to that call alone.
//
// Children have the mapping as it was when they were forked: what it grew by since then, by Resize, they have
// only if it kept its place within its reserve.
func (p *Pool) Call(ctx context.Context, child ChildFunc, off, length int) (int, error) {
	defer runtime.KeepAlive(p)
	const op = "call"
	if err := p.check(child, off, length); err != nil {
		return 0, &Error{op, length, err}
	}
	w, err := p.take(ctx)
	if err != nil {
		return 0, &Error{op, length, err}
	}
	p.calls.Add(1)
	result, err := p.callBy(ctx, w, child, off, length)
	if err == nil {
		p.idle <- w
		return result, nil
	}
	p.failed.Add(1)
	go func() {
		if w.child == nil {
			_ = p.restart(context.Background(), w) // if it fails, the next call tries again, and tells
		}
		p.idle <- w
	}()
	select {
	case <-p.closing:
		err = ErrPoolClosed
	default:
	}
	return 0, &Error{op, length, err}
}

// check refuses calls that cannot be made.
func (p *pool) check(child ChildFunc, off, length int) error {
	if err := p.isOurs(); err != nil { // first of all: a copy's locks may be locked for ever
		return err
	}
	if child == nil {
		return fmt.Errorf("child is nil, must be a C function: %w", unix.EINVAL)
	}
	select {
	case <-p.closing:
		return ErrPoolClosed
	default:
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

// callBy has the worker's child do it. If that was lost before it came to the call, a fresh one does it.
func (p *pool) callBy(ctx context.Context, w *worker, child ChildFunc, off, length int) (result int, err error) {
	for again := true; again; {
		fresh := w.child == nil
		if fresh {
			if err := p.restart(ctx, w); err != nil {
				return 0, err
			}
		}
		result, again, err = w.call(ctx, child, off, length)
		again = again && !fresh // one that is lost before it comes to its first call tells of more than bad luck
	}
	return result, err
}

// isOurs refuses what a live fork's child would do with its parent's children.
func (p *pool) isOurs() error {
	if p.process != processToken() {
		return fmt.Errorf("the pool is that of process %d, of which this is a fork: %w", p.pid, unix.ECHILD)
	}
	return nil
}

// take waits for a worker that is free.
func (p *pool) take(ctx context.Context) (*worker, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case w := <-p.idle:
		return w, nil
	case <-p.closing:
		return nil, ErrPoolClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// call has the worker's child do it. If that fails the child is killed, and the worker has none; again says that it
// ended before it came to the call, so that another can do it.
func (w *worker) call(ctx context.Context, child ChildFunc, off, length int) (result int, again bool, err error) {
	c := w.child
	c.seq++
	if c.control.page.call(c.seq, child, off, length, futexTime) || c.await(ctx) {
		return c.control.result(), false, nil
	}
	limit, cancel := context.WithTimeout(context.Background(), killGrace)
	defer cancel()
	err = c.stop(limit)
	w.set(nil)
	defer c.release()
	switch {
	case c.control.isAnswered(c.seq): // just so
		return c.control.result(), false, nil
	case ctx.Err() != nil && isKilled(err):
		return 0, false, fmt.Errorf("child %d is killed: %w", c.pid, ctx.Err())
	case err == nil: // it called exit(0)
		err = &ExitError{Pid: c.pid}
	}
	return 0, c.control.isUnstarted(c.seq), err
}

// stop kills the child and waits for its end, though not beyond the limit.
func (c *poolChild) stop(limit context.Context) error {
	_ = c.Kill()
	err := c.Wait(limit)
	if err != nil && err == limit.Err() {
		return fmt.Errorf("child %d is killed, but has not ended", c.pid)
	}
	return err
}

// await waits for the answer in the poller. It returns false if the context, the child or the pool has ended before
// that.
func (c *poolChild) await(ctx context.Context) bool {
	defer context.AfterFunc(ctx, c.wakeUp)()
	noise, look := 0, firstLook
	for {
		// A wake-up that comes before this is seen below; one that comes after it ends the sleep.
		_ = c.wake.SetReadDeadline(time.Now().Add(look))
		if c.control.isAnswered(c.seq) {
			return true
		}
		select {
		case <-c.reaped():
			return c.control.isAnswered(c.seq)
		case <-ctx.Done():
			return false
		case <-c.closing:
			return false
		default:
		}
		if noise < maxNoise && c.sleep() {
			noise++
			continue
		}
		if noise == maxNoise {
			c.sleepDeaf(ctx, look)
		}
		look = min(2*look, lastLook)
	}
}

// sleep waits until the child says something, or for wakeUp, or for the deadline. It reports whether the child said
// something, or has closed its end.
func (c *poolChild) sleep() (said bool) {
	conn, err := c.wake.SyscallConn()
	if err != nil {
		return true
	}
	var bytes [64]byte
	err = conn.Read(func(fd uintptr) bool {
		// Never a call that can block: a process that inherited this end could make the socket a blocking one.
		_, _, err := unix.Recvfrom(int(fd), bytes[:], unix.MSG_DONTWAIT)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// sleepDeaf is sleep for a while, whatever the child says.
func (c *poolChild) sleepDeaf(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.reaped():
	case <-ctx.Done():
	case <-c.closing:
	}
}

// Stats returns what the pool did so far.
func (p *Pool) Stats() PoolStats {
	return PoolStats{p.calls.Load(), p.failed.Load(), p.restarts.Load()}
}

// Close kills the children, and returns once they are reaped. Calls under way return [ErrPoolClosed], as all
// later ones do. The second call returns it too. A child that does not end soon, as one that is traced (ptrace(2)),
// is named in the error, and is reaped when it ends.
func (p *Pool) Close() error {
	err := ErrPoolClosed
	p.once.Do(func() { err = p.close() })
	if err != nil {
		return &Error{"close", 0, err}
	}
	return nil
}

func (p *pool) close() error {
	if err := p.isOurs(); err != nil {
		return err
	}
	close(p.closing)
	for _, w := range p.workers { // those at work let go of their calls
		w.mu.Lock()
		if w.child != nil {
			_ = w.child.Kill()
			w.child.wakeUp()
		}
		w.mu.Unlock()
	}
	limit, cancel := context.WithTimeout(context.Background(), killGrace)
	defer cancel()
	var stays error
	for range p.workers {
		w := <-p.idle
		c := w.child
		if c == nil {
			continue
		}
		w.set(nil)
		if err := c.stop(limit); err != nil && !errors.As(err, new(*ExitError)) && !errors.Is(err, unix.ECHILD) {
			stays = err
		}
		c.release()
	}
	return stays
}
