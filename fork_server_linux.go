package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ForkServer makes children of a Shared mapping. It is a process with one
// thread and little memory. The server forks the children, and yet they are
// children of this process, as those of [Mapping.Fork] are. So a fork neither
// pauses this process nor copies its page tables, however much memory this
// process has. The server forks in advance: one child waits for its function.
//
// A child begins as a copy of the server. So the child has the libraries and
// the mappings that this process had when the server was made, and what Init
// has done. It lacks the libraries that this process has loaded since. Make the
// server early, while the program has little memory of its own: the server has
// a copy of all private memory except the Go heap, and the more memory the
// server has, the longer each fork takes.
//
// The server inherits descriptors 0, 1, 2 and Fork.KeepFDs. Server and children
// end when this process ends, or calls execve(2). If the server ends for
// another reason, the next fork makes a new server, at most ten in a second.
// The server's end does not affect its children.
//
// The handlers of pthread_atfork(3) do not run in the children. malloc and stdio
// work there. All else is as with [Mapping.Fork]: the function's result, signals,
// crash reports, the settings of [ForkConfig].
//
// Fork servers need a kernel with CONFIG_CHECKPOINT_RESTORE, and glibc. Under
// gVisor and with musl the methods work too, but each child is forked by this
// process and runs Init itself. See clone(2), CLONE_PARENT.
type ForkServer struct{ *forkServer }

// forkServer is the state of a ForkServer. It is a struct of its own, because the cleanup of an
// unreachable ForkServer must not keep the ForkServer reachable.
type forkServer struct {
	process uint64 // the token of the process that made it: a live fork's child has a copy
	pid     int    // of that process
	m       *Mapping
	cfg     ForkServerConfig
	life    context.Context // ends by Close
	end     context.CancelFunc
	closed  atomic.Bool

	turn   chan struct{} // has an element while someone uses what follows
	server *server       // nil if there is none
	plain  bool          // there can be none: this process forks
	rate   restartRate
}

const (
	serversPerSecond = 10 // see ForkServer

	// maxTries is how often a fork is tried with servers that end, or with children that were killed
	// while they waited for their function.
	maxTries = 3
)

// ForkServer forks a process that makes children of the mapping: see [ForkServer].
// The mapping must be Shared. A nil cfg means all defaults. Close ends the process.
// If Init crashes or fails, there is no server, and the error says why. See fork(2),
// clone(2).
func (m *Mapping) ForkServer(cfg *ForkServerConfig) (*ForkServer, error) {
	const op = "fork server"
	if cfg == nil {
		cfg = new(ForkServerConfig)
	}
	inner, err := newForkServer(m, cfg)
	if err != nil {
		return nil, &Error{op, m.Len(), err}
	}
	s := &ForkServer{inner}
	runtime.AddCleanup(s, func(s *forkServer) { go func() { _ = s.close() }() }, inner)
	return s, nil
}

func newForkServer(m *Mapping, cfg *ForkServerConfig) (*forkServer, error) {
	if m.Sharing() != Shared {
		return nil, fmt.Errorf("%v, must be Shared: %w", m.Sharing(), unix.EINVAL)
	}
	s := &forkServer{
		process: processToken(), pid: os.Getpid(), m: m, cfg: *cfg, turn: make(chan struct{}, 1),
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.cfg.Fork.KeepFDs = slices.Clone(cfg.Fork.KeepFDs)
	s.cfg.Fork.Limits = slices.Clone(cfg.Fork.Limits)
	s.cfg.Fork.KillWithParent = true
	s.cfg.Fork.CloseFDs = true
	s.cfg.Fork.Lean = true
	if err := s.renew(); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// Fork forks a child that runs child(addr, length), as [Mapping.Fork] does. addr
// and length are those of the mapping now. If the mapping has moved or has become
// longer since the server was made, Fork makes another server first.
//
// Forks of one server take turns. A server that does not answer within ten
// seconds is killed, and a new one gets the request.
func (s *ForkServer) Fork(child ChildFunc) (*Process, error) {
	defer runtime.KeepAlive(s)
	p, err := s.fork(context.Background(), forkArgs{child: child})
	if err != nil {
		return nil, &Error{"fork", s.m.Len(), err}
	}
	return p, nil
}

// Call forks a child as Fork does, and waits for the child. Call returns what
// [Process.Wait] returns. If ctx ends first, the child is killed and reaped, and
// the error wraps ctx.Err(). See [Call].
func (s *ForkServer) Call(ctx context.Context, child ChildFunc) error {
	defer runtime.KeepAlive(s)
	p, err := s.fork(ctx, forkArgs{child: child})
	if err != nil {
		return &Error{"call", s.m.Len(), err}
	}
	return p.waitOrEnd(ctx, s.m)
}

// Close ends the server, and returns when it is reaped. Its children go on, and
// must be waited for as any others. Calls of Fork and Call that wait for the
// server return [ErrForkServerClosed], and so do later calls and a second
// Close.
func (s *ForkServer) Close() error {
	defer runtime.KeepAlive(s)
	if err := s.close(); err != nil {
		return &Error{"close", 0, err}
	}
	return nil
}

func (s *forkServer) close() error {
	if err := s.checkOwner(); err != nil {
		return err
	}
	if s.closed.Swap(true) {
		return ErrForkServerClosed
	}
	s.end()
	s.turn <- struct{}{} // whoever has the turn gives up now
	defer s.yield()
	return s.drop()
}

// checkOwner returns an error in a live fork's child, which must not use its parent's server.
func (s *forkServer) checkOwner() error {
	if s.process != processToken() {
		return fmt.Errorf("the fork server belongs to process %d, and this process is a fork of it: %w",
			s.pid, unix.ECHILD)
	}
	return nil
}

// acquire waits for this caller's turn.
func (s *forkServer) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.closed.Load() {
		s.yield()
		return ErrForkServerClosed
	}
	return nil
}

func (s *forkServer) yield() { <-s.turn }

// fork forks a child of the mapping. args says what the child does.
func (s *forkServer) fork(ctx context.Context, args forkArgs) (p *Process, err error) {
	if err := s.checkOwner(); err != nil { // first: the lock in a live fork's copy may stay locked
		return nil, err
	}
	if args.child == nil && args.flags&serve == 0 {
		return nil, fmt.Errorf("child is nil, must be a C function: %w", unix.EINVAL)
	}
	ctx, cancel := within(ctx, s.life)
	defer cancel()
	p, err = s.tryToFork(ctx, args)
	if err != nil && errors.Is(err, s.life.Err()) {
		err = ErrForkServerClosed
	}
	return p, err
}

// within returns a context that ends with ctx, and with life.
func within(ctx, life context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(life, cancel)
	return ctx, func() { stop(); cancel() }
}

// tryToFork forks a child, by another server if one has ended.
func (s *forkServer) tryToFork(ctx context.Context, args forkArgs) (p *Process, err error) {
	for tries := 0; tries < maxTries; {
		if err := s.acquire(ctx); err != nil {
			return nil, err
		}
		if s.server == nil && !s.plain {
			if err := s.renewWithin(ctx); err != nil {
				return nil, err
			}
			continue
		}
		p, err = s.forkOnce(ctx, args)
		s.yield()
		switch {
		case err == errStale:
			continue
		case !errors.Is(err, errServerEnded):
			return p, err
		}
		tries++
	}
	return nil, err
}

// errStale is for a server that has been dropped because the mapping is not as it was.
var errStale = errors.New("the mapping has moved or has grown")

// forkOnce forks a child by the present server. The caller has the turn.
func (s *forkServer) forkOnce(ctx context.Context, args forkArgs) (*Process, error) {
	if s.plain {
		return s.forkPlain(ctx, args)
	}
	v := s.server
	live, err := s.m.use(&args)
	if err != nil {
		return nil, err
	}
	if args.addr != v.addr || args.length > uintptr(v.length) {
		removeChild(live)
		_ = s.drop()
		return nil, errStale
	}
	p, err := s.forkBy(ctx, v, args)
	if err == nil {
		p.uses(live)
		p.reapIfOwner()
	} else {
		removeChild(live)
	}
	if v.broken {
		_ = s.drop()
	}
	if errors.Is(err, errServerEnded) {
		err = fmt.Errorf("%w: %w", err, v.howEnded())
	}
	return p, err
}

// use says where the mapping is, and counts a child among those that use it: see addChild.
func (m *Mapping) use(args *forkArgs) (live *atomic.Int64, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return nil, ErrClosed
	}
	args.addr, args.length = m.mem.addr, uintptr(m.mem.length)
	return m.mem.addChild(), nil
}

// forkBy has the server fork a child. A child of a pool gets a descriptor, so it is forked now. Any
// other has been forked in advance, and gets its function now.
func (s *forkServer) forkBy(ctx context.Context, v *server, args forkArgs) (*Process, error) {
	if args.flags&serve != 0 {
		if err := v.ask(&s.cfg.Fork, args); err != nil {
			return nil, err
		}
		p, err := v.take(ctx)
		if v.next != nil { // ctx has ended first
			v.broken = true
		}
		return p, err
	}
	for range maxTries {
		if v.next == nil {
			if err := v.ask(&s.cfg.Fork, forkArgs{addr: v.addr, flags: awaitFunction}); err != nil {
				return nil, err
			}
		}
		p, err := v.take(ctx)
		if err == errStillborn {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.giveFunction(args.child, int(args.length)) {
			// If this fails, the next fork tries again.
			_ = v.ask(&s.cfg.Fork, forkArgs{addr: v.addr, flags: awaitFunction})
			return p, nil
		}
	}
	return nil, fmt.Errorf("%d children were killed while they waited for their function", maxTries)
}

// giveFunction gives the function to a child that waits for it. If the child has ended,
// giveFunction has it reaped, and returns false.
func (p *Process) giveFunction(child ChildFunc, length int) bool {
	if p.handle.hasEnded() {
		p.reaped()
		return false
	}
	p.control.page.giveFunction(child, length)
	return true
}

// forkPlain forks a child without a server.
func (s *forkServer) forkPlain(ctx context.Context, args forkArgs) (*Process, error) {
	cfg := s.cfg.Fork
	if args.flags&serve != 0 {
		cfg.KeepFDs = append(slices.Clone(cfg.KeepFDs), int(args.wakeFD))
	}
	args.init = s.cfg.Init
	p, err := s.m.startChild(ctx, args, &cfg)
	if err == nil && args.flags&serve != 0 && args.init != nil {
		err = p.endedEarly(ctx)
	}
	return p, err
}

// renewWithin makes a server, and yields the turn then. If ctx ends first, the server is made
// nevertheless, for those who fork next.
func (s *forkServer) renewWithin(ctx context.Context) error {
	made := make(chan error, 1)
	go func() {
		defer s.yield()
		timer := time.NewTimer(time.Until(s.rate.next(serversPerSecond)))
		defer timer.Stop()
		err := error(ErrForkServerClosed)
		select {
		case <-timer.C:
			err = s.renew()
		case <-s.life.Done():
		}
		if s.closed.Load() { // close may not have waited
			_ = s.drop()
		}
		made <- err
	}()
	select {
	case err := <-made:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// renew makes the server. The caller has the turn, or nobody else has the forkServer yet.
func (s *forkServer) renew() error {
	v, err := startServer(s.life, s.m, &s.cfg)
	if errors.Is(err, errNoServer) {
		s.plain = true
		return nil
	}
	s.server = v
	return err
}

// drop ends the server, if there is one. The caller has the turn.
func (s *forkServer) drop() error {
	if s.server == nil {
		return nil
	}
	err := s.server.stop()
	s.server = nil
	return err
}
