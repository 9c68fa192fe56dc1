package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PoolConfig holds what [NewPool] is asked for beyond the number of children.
type PoolConfig struct {
	Fork ForkConfig // of each child; KillWithParent is always set

	// RestartRate is how many children a second may be forked to replace lost ones, after as many at once;
	// 0 means 100. Calls wait meanwhile, so that children which crash at once do not make the program fork all the time.
	RestartRate int
}

// Pool is a number of children of one shared mapping that serve calls, one after another each. A call
// to a child that is there already costs microseconds, where a fork costs hundreds. What a crash, or a deadline
// missed, costs is that call and that child, which is replaced by a fresh one.
type Pool struct{ *pool }

// pool lives apart from its Pool, as the cleanup of an unreachable Pool must not hold the Pool itself.
type pool struct {
	process uint64 // whose pool it is, by its token, and not that of a copy by a live fork
	pid     int    // of that process
	m       *Mapping
	cfg     PoolConfig
	boxes   *Mapping     // a mailbox for each child
	idle    chan *server // those that no call has
	closing chan struct{}
	once    sync.Once

	servers []*server

	mu  sync.Mutex
	due time.Time // when the next restart would be, at the rate alone

	calls, failed, restarts atomic.Uint64
}

// PoolStats counts what a pool did.
type PoolStats struct {
	Calls    uint64 // calls that a child was asked for
	Failed   uint64 // of these, those that cost the child
	Restarts uint64 // children forked to replace lost ones
}

// server is a child of a pool, and its successors.
type server struct {
	box  *mailbox
	done *os.File // eventfd

	mu    sync.Mutex // held to set child, by the call that has the server, and by others to read it
	child *Process   // nil if there is none
}

// mailbox is what csrc/pool.h has.
type mailbox struct {
	asked          uint32
	doneFD         int32
	base           unsafe.Pointer
	child          ChildFunc
	offset, length uintptr
	_              [64 - 2*4 - 4*unsafe.Sizeof(uintptr(0))]byte

	begun, answered, asleep uint32
	result                  int32
	_                       [64 - 4*4]byte
}

// patience is for how long a call waits on its thread. A longer one waits in the poller, where it holds none.
const patience = 100 * time.Microsecond

// NewPool forks n children of the mapping, which must be Shared, as a child's answers would be its own
// else. A nil cfg means all defaults. The pool uses the mapping, and does not close it. A program that gives up
// privileges (setuid(2)) does so before: later it may not kill these children. See fork(2), futex(2).
func NewPool(m *Mapping, n int, cfg *PoolConfig) (*Pool, error) {
	const op = "pool"
	if cfg == nil {
		cfg = new(PoolConfig)
	}
	switch {
	case n < 1:
		return nil, &Error{op, m.Len(), fmt.Errorf("%d children, must be at least one: %w", n, unix.EINVAL)}
	case m.Sharing() != Shared:
		return nil, &Error{op, m.Len(), fmt.Errorf("%v, must be Shared: %w", m.Sharing(), unix.EINVAL)}
	case cfg.RestartRate < 0:
		return nil, &Error{op, m.Len(), fmt.Errorf("RestartRate %d: %w", cfg.RestartRate, unix.EINVAL)}
	}
	boxes, err := Map(Shared, n*int(unsafe.Sizeof(mailbox{})), &Config{Technique: Anonymous})
	if err != nil {
		return nil, err
	}
	p := &Pool{&pool{process: processToken(), pid: os.Getpid(), m: m, cfg: *cfg, boxes: boxes, idle: make(chan *server, n), closing: make(chan struct{})}}
	p.cfg.Fork.KillWithParent = true
	if p.cfg.RestartRate == 0 {
		p.cfg.RestartRate = 100
	}
	all := unsafe.Slice((*mailbox)(boxes.Addr()), n)
	for i := range all {
		s := &server{box: &all[i]}
		p.servers = append(p.servers, s)
		p.idle <- s
		if err := p.start(s); err != nil {
			_ = p.Close()
			return nil, err
		}
	}
	runtime.AddCleanup(p, func(p *pool) { go p.once.Do(func() { _ = p.close() }) }, p.pool)
	return p, nil
}

// start forks a child for a server that has none.
func (p *pool) start(s *server) error {
	const op = "fork"
	if s.done == nil {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return &Error{op, p.m.Len(), os.NewSyscallError("eventfd", err)}
		}
		s.done = os.NewFile(uintptr(fd), "eventfd")
		s.box.doneFD = int32(fd)
	}
	box := s.box
	box.asked, box.answered, box.asleep = 0, 0, 0
	cfg := p.cfg.Fork
	cfg.KeepFDs = append([]int{int(box.doneFD)}, cfg.KeepFDs...)

	p.m.mu.RLock()
	defer p.m.mu.RUnlock()
	if p.m.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	box.base = p.m.mem.addr
	child, err := startChild(p.m.mem, serve, unsafe.Pointer(box), int(unsafe.Sizeof(*box)), &cfg)
	if err != nil {
		return &Error{op, p.m.mem.length, err}
	}
	s.set(child)
	go func() { // whoever awaits its answer is told of its end
		<-child.watched()
		s.wake()
	}()
	return nil
}

func (s *server) set(child *Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child = child
}

// wake makes await look.
func (s *server) wake() { _ = s.done.SetReadDeadline(time.Unix(1, 0)) }

// restart is start, at the pool's rate.
func (p *pool) restart(ctx context.Context, s *server) error {
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
	if err := p.start(s); err != nil {
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

// Call has a child run child(address of the mapping + off, length), and returns what that returns. It waits
// for a child that is free. An off and length beyond the mapping are ErrRange. The C function leaves alone what
// descriptors it did not open: by one of them the child says that it is done.
//
// A child that ends instead makes it an [*ExitError]; if the context ends first, the child is killed and the error
// wraps the context's. In both cases the call may have been done in part, no other call is affected, and the child
// is replaced. Where that cannot be done the calls that follow say why, and try anew.
//
// Children have the mapping as it was when they were forked: what it grew by since then, by Resize, they have
// only if it kept its place within its reserve.
func (p *Pool) Call(ctx context.Context, child ChildFunc, off, length int) (int, error) {
	defer runtime.KeepAlive(p)
	const op = "call"
	if child == nil {
		return 0, &Error{op, length, fmt.Errorf("child is nil, must be a C function: %w", unix.EINVAL)}
	}
	if whole := p.m.Len(); off < 0 || length < 0 || off > whole-length {
		return 0, &Error{op, length, fmt.Errorf("offset %d: %w of a mapping of %d bytes", off, ErrRange, whole)}
	}
	if err := p.isOurs(); err != nil {
		return 0, &Error{op, length, err}
	}
	s, err := p.take(ctx)
	if err != nil {
		return 0, &Error{op, length, err}
	}
	p.calls.Add(1)
	var result int
	for again := true; again; {
		fresh := s.child == nil
		if fresh {
			if err = p.restart(ctx, s); err != nil {
				break
			}
		}
		result, again, err = s.call(ctx, child, off, length)
		again = again && !fresh // one that is lost before it comes to its first call tells of more than bad luck
	}
	if err == nil {
		p.idle <- s
		return result, nil
	}
	p.failed.Add(1)
	go func() {
		if s.child == nil {
			_ = p.restart(context.Background(), s) // if it fails, the next call tries again, and tells
		}
		p.idle <- s
	}()
	select {
	case <-p.closing:
		err = ErrPoolClosed
	default:
	}
	return 0, &Error{op, length, err}
}

// isOurs refuses what a live fork's child would do with its parent's children.
func (p *pool) isOurs() error {
	if p.process != processToken() {
		return fmt.Errorf("the pool is that of process %d, of which this is a fork: %w", p.pid, unix.ECHILD)
	}
	return nil
}

// take waits for a server that is free.
func (p *pool) take(ctx context.Context) (*server, error) {
	select {
	case <-p.closing:
		return nil, ErrPoolClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case s := <-p.idle:
		return s, nil
	case <-p.closing:
		return nil, ErrPoolClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// call has the server's child do it. If that fails, the child is reaped; again says that it ended before it
// came to the call, so that another can do it.
func (s *server) call(ctx context.Context, child ChildFunc, off, length int) (result int, again bool, err error) {
	box := s.box
	if box.ask(child, off, length, patience) || s.await(ctx) {
		return int(box.result), false, nil
	}
	_ = s.child.Kill()
	err = s.child.Wait(context.Background())
	pid := s.child.pid
	s.set(nil)
	switch {
	case box.isAnswered(): // just so
		return int(box.result), false, nil
	case ctx.Err() != nil && isKilled(err):
		return 0, false, fmt.Errorf("child %d is killed: %w", pid, ctx.Err())
	case err == nil: // it called exit(0)
		err = &ExitError{Pid: pid}
	}
	return 0, atomic.LoadUint32(&box.begun) != box.asked, err
}

// isKilled says whether a child that was sent SIGKILL died of it. Where its status is lost it may have.
func isKilled(err error) bool {
	var exit *ExitError
	if errors.As(err, &exit) {
		return exit.Status.Signal() == unix.SIGKILL
	}
	return err != nil
}

// await waits for the answer in the poller. It returns false if the context or the child has ended before that.
func (s *server) await(ctx context.Context) bool {
	defer context.AfterFunc(ctx, s.wake)()
	ended := s.child.watched()
	for {
		// A wake-up that comes before this is seen below; one that comes after it ends Read.
		_ = s.done.SetReadDeadline(time.Time{})
		if s.box.isAnswered() {
			return true
		}
		select {
		case <-ended:
			return s.box.isAnswered()
		case <-ctx.Done():
			return false
		default:
		}
		var count [8]byte
		_, _ = s.done.Read(count[:])
	}
}

// Stats returns what the pool did so far.
func (p *Pool) Stats() PoolStats {
	return PoolStats{p.calls.Load(), p.failed.Load(), p.restarts.Load()}
}

// Close kills the children, and returns once they are reaped. Calls under way return [ErrPoolClosed], as all
// later ones do. The second call returns it too.
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
	for _, s := range p.servers { // those at work let go of their calls
		s.mu.Lock()
		if s.child != nil {
			_ = s.child.Kill()
		}
		s.mu.Unlock()
	}
	for range p.servers {
		s := <-p.idle
		if s.child != nil {
			_ = s.child.Kill()
			_ = s.child.Wait(context.Background())
			s.set(nil)
		}
		if s.done != nil {
			_ = s.done.Close()
		}
	}
	return p.boxes.Close()
}
