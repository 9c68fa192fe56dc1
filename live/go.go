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

// Config has the settings of a child of [GoWith]. A nil Config means all
// defaults, as for [Go].
type Config struct {
	// BeginWithin limits how long the child may take to begin its function. The
	// time counts from the call of GoWith, and includes a wait for a garbage
	// collection, and the fork. A child that takes longer is killed and reaped,
	// and the error wraps [ErrStuck]. With a limit, GoWith returns when the
	// function begins, or when the child ends before that. Zero means no limit,
	// and GoWith does not wait.
	BeginWithin time.Duration

	// DropFDs has the child let go of the descriptors that it inherits and does
	// not need, before anything else. GoWith returns when that is done, or after
	// 10 seconds. What the parent then closes is closed: a peer sees the end of
	// its connection, a port can be taken again, and a command sees the end of
	// its standard input.
	//
	// The child lets go of sockets, pipes, terminals, descriptors of epoll(7),
	// eventfd(2) and the like, and of files that are open for writing only.
	// Their numbers stay taken, and operations on them fail with EBADF. So the
	// child may close objects of the parent.
	//
	// Regular files, folders and disks that are open for reading stay readable.
	// The child opens each of them anew, for reading only, so that the offset
	// and the locks (flock(2)) are its own. Some files stay as they are: those
	// that the child may not open, all files if there is no /proc, files without
	// a name (as of memfd_create(2)), and files that are open for appending, such
	// as a log.
	//
	// The standard files 0, 1 and 2 stay, unless the program had closed them.
	// The file that the standard logger writes to stays, too.
	DropFDs bool

	// Keep and KeepFDs are exceptions from DropFDs: files, connections and
	// listeners, and descriptors by their number.
	Keep    []syscall.Conn
	KeepFDs []int
}

// dropping returns how the child lets go of descriptors, or nil if the child
// keeps all.
func (c *Config) dropping() (*dropping, error) {
	if c == nil || !c.DropFDs {
		if c != nil && len(c.Keep)+len(c.KeepFDs) > 0 {
			return nil, errors.New("live: Config.Keep and Config.KeepFDs are exceptions from " +
				"DropFDs, but DropFDs is not set")
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

// Go forks a child that runs fn, and that exits by os.Exit with the status that
// fn returns. The caller's deferred calls do not run in the child. If fn
// panics, the child prints the panic and exits with status 2. The status is 2,
// too, if fn calls [runtime.Goexit]. Wait for the [shm.Process] that Go
// returns. The errors are those of [Fork].
func Go(fn func() int) (*shm.Process, error) { return GoWith(fn, nil) }

// GoWithin is [GoWith] with limit as BeginWithin. If limit is zero or negative,
// the child is killed unless it has begun its function already.
func GoWithin(limit time.Duration, fn func() int) (*shm.Process, error) {
	if fn == nil {
		return nil, errNilFunc
	}
	return goWithin(limit, fn, nil)
}

// GoWith is [Go] with settings for the child.
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

// goChild forks a child that runs fn after it has let go of the descriptors
// that d names.
func goChild(fn func() int, d *dropping) (*shm.Process, error) {
	type result struct {
		process any
		err     error
	}
	results := make(chan result, 1)
	// A new goroutine has no frames of the caller below fn.
	go func() {
		p, err := hook.NewProcess(func(owner uint32) (int, time.Duration, error) {
			pid, held, err := fork(d, owner)
			if pid == 0 && err == nil {
				defer func() { // by a panic, which goes on, or by runtime.Goexit
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

// goWithin is goChild with a limit on how long the child may take to begin.
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
		return p, nil // the child ended on its own, and Wait returns how
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
