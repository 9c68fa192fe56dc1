package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"
)

// Config is what a child of [GoWith] may be told. A nil Config means all
// defaults, as [Go] has them.
type Config struct {
	// BeginWithin is a watchdog. A child that has not begun its function this
	// long after the call of GoWith is killed and reaped, and the error wraps
	// [ErrStuck]. The time includes a wait for a garbage collection that is
	// under way, and the fork. GoWith then returns as the function begins, or
	// as the child ends before that. Zero means no limit, and GoWith does not
	// wait.
	BeginWithin time.Duration

	// DropFDs has the child let go of the descriptors that it inherits and
	// does not need. It does so first of all, and GoWith returns when it has
	// (or after 10 seconds). What the parent then closes is closed: a peer
	// sees the end of its connection, a port can be taken again, and a command
	// sees the end of its standard input.
	//
	// The child lets go of sockets, pipes, terminals, descriptors of epoll(7),
	// eventfd(2) and the like, and files that are open for writing alone.
	// Their numbers stay taken, and what is done with them fails with EBADF.
	// So objects of the parent's can be closed in the child.
	//
	// Regular files, folders and disks that are open for reading stay
	// readable. The child has each opened anew, for reading alone: so offset
	// and locks (flock(2)) are its own. A file stays as it is where the child
	// may not open it or there is no /proc, where it has no name (as of
	// memfd_create(2)), and where it is open for appending, as a log.
	//
	// The standard files stay, 0, 1 and 2, unless the program had closed them.
	// So does the file that the standard logger writes to.
	DropFDs bool

	// Keep and KeepFDs are what DropFDs leaves as it is: files, connections
	// and listeners, and descriptors by their number.
	Keep    []syscall.Conn
	KeepFDs []int
}

// dropping returns how the child lets go, nil if it keeps all.
func (c *Config) dropping() (*dropping, error) {
	if c == nil || !c.DropFDs {
		if c != nil && len(c.Keep)+len(c.KeepFDs) > 0 {
			return nil, errors.New("live: Config.Keep and KeepFDs are exceptions from DropFDs, " +
				"which is false")
		}
		return nil, nil
	}
	keep := slices.Clone(c.KeepFDs)
	for i, fd := range keep {
		if !isOpen(fd) {
			return nil, fmt.Errorf("live: Config.KeepFDs[%d] is %d: %w", i, fd, syscall.EBADF)
		}
	}
	for i, f := range c.Keep {
		fd, open := descriptor(f)
		if !open {
			return nil, fmt.Errorf("live: Config.Keep[%d]: %w", i, os.ErrClosed)
		}
		keep = append(keep, fd)
	}
	return newDropping(keep...)
}

// Go forks a child that runs fn and exits with the status that it returns, by
// os.Exit. Deferred calls of the caller's do not run in the child. If fn
// panics, the child prints the panic and exits with status 2; so it does if fn
// calls [runtime.Goexit]. The parent's end of the child is a [shm.Process]:
// wait for it. It fails with what [Fork] fails with.
func Go(fn func() int) (*shm.Process, error) { return GoWith(fn, nil) }

// GoWithin is [GoWith] with a BeginWithin of limit. A limit that is not
// positive has passed: the child is killed, unless it has begun already.
func GoWithin(limit time.Duration, fn func() int) (*shm.Process, error) {
	if fn == nil {
		return nil, errNilFunc
	}
	return goWithin(limit, fn, nil)
}

// GoWith is [Go] for a child that is told more. See [Config].
func GoWith(fn func() int, config *Config) (*shm.Process, error) {
	if fn == nil {
		return nil, errNilFunc
	}
	if config != nil && config.BeginWithin < 0 {
		return nil, fmt.Errorf("live: Config.BeginWithin is %v, must not be negative",
			config.BeginWithin)
	}
	if err := canFork(); err != nil {
		return nil, err
	}
	d, err := config.dropping()
	if err != nil {
		return nil, err
	}
	if d != nil {
		defer d.close()
	}
	if config != nil && config.BeginWithin > 0 {
		return goWithin(config.BeginWithin, fn, d)
	}
	p, err := goChild(fn, d)
	if err == nil && d != nil {
		d.wait(p)
	}
	return p, err
}

// goChild forks a child that runs fn, and lets go first of what d says.
func goChild(fn func() int, d *dropping) (*shm.Process, error) {
	type result struct {
		process any
		err     error
	}
	results := make(chan result, 1)
	// In a goroutine of its own nothing of the caller's is below fn.
	go func() {
		p, err := hook.NewProcess(func(owner uint32) (int, time.Duration, error) {
			pid, held, err := fork(d, owner)
			if pid == 0 && err == nil {
				defer func() { // a panic goes on; runtime.Goexit comes here alone
					if e := recover(); e != nil {
						panic(e)
					}
					fmt.Fprintln(os.Stderr, "live: the child's function called runtime.Goexit")
					os.Exit(2)
				}()
				os.Exit(fn())
			}
			return pid, held, err
		})
		results <- result{p, err}
	}()
	r := <-results
	if r.err != nil {
		return nil, r.err
	}
	return r.process.(*shm.Process), nil
}

// goWithin is goChild with a watchdog.
func goWithin(limit time.Duration, fn func() int, d *dropping) (*shm.Process, error) {
	deadline := time.Now().Add(limit)
	begin, err := newSign()
	if err != nil {
		return nil, err
	}
	defer begin.close()
	if d != nil {
		d.keep = append(d.keep, begin.fd)
	}
	p, err := goChild(func() int {
		begin.give()
		return fn()
	}, d)
	if err != nil {
		return nil, err
	}
	given, err := begin.orEndOf(p.Pid(), deadline)
	if given {
		return p, nil
	}
	_ = p.Kill()
	if err := p.Wait(context.Background()); !isKilled(err) {
		return p, nil // it has ended on its own, just so: for Wait to tell
	}
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("live: child %d is killed: %w within %v", p.Pid(), ErrStuck, limit)
}

func isKilled(err error) bool {
	var exit *shm.ExitError
	return errors.As(err, &exit) && exit.Status.Signal() == syscall.SIGKILL
}
