// Package live forks Go programs: the child goes on in Go, at the line after the fork, with all of
// the parent's memory as it was at that instant.
//
//	child, err := live.Go(func() int { return save(database) })
//	if err != nil {
//		return err // ErrNotPatched: the program was not built by livego
//	}
//	err = child.Wait(ctx)
//
// It needs a runtime that knows of it: build, run and test the program by livego in place of go
// (go install forkshm.example/shm/cmd/livego), on Linux, with cgo, by Go 1.24 to 1.27. Built by
// plain go the package compiles, and its forks fail with [ErrNotPatched].
//
// # What the child is
//
// Only the goroutine that forked goes on. Every other stays where it was, for ever, unless the child's
// own code wakes it, as by a send on the channel that it receives from. Deferred calls of
// goroutines that stay do not run. The runtime is whole: new goroutines, garbage collection, timers,
// network, os/exec, signals, cgo, and further forks.
//
// # Rules
//
//   - A lock that another goroutine held at the fork stays held in the child: a sync.Mutex, those inside
//     packages and inside values such as a [shm.Mapping]. Take what the child needs before forking, or see
//     [AtFork] and [ResetLock]. The standard logger's lock and the environment's are looked after.
//   - A sync.Once whose function another goroutine was running at the fork begins anew in the child: its next Do
//     there calls its own function, and what the first call had done by then stays done. The same holds for
//     sync.OnceFunc, OnceValue and OnceValues. See pthread_once(3).
//   - Unlocking, in the child, a lock that others wait for wakes one of them, there.
//   - Timers and tickers of the parent do not fire in the child, until it resets them; but one with a channel
//     that nobody was receiving from does, once the child receives from it. Deadlines of inherited connections
//     do not expire, nor do those of inherited contexts.
//   - Inherited sockets, pipes and listeners are shared with the parent, and the child's poller does not
//     know them: a read that has to wait waits for ever. For one of its own the child takes a
//     duplicate (dup(2)) into a new net.Conn by net.FileConn. Files share their offset. What keeps connections,
//     such as an http.Transport or an sql.DB, is made anew by a child that needs one: a request by the parent's
//     would be written to a connection that the parent uses, and closing it tell its peer. http.DefaultTransport
//     is looked after: in the child it has none.
//   - A sync.Map and unique.Make have locks inside that nobody can take before a fork. A fork has goroutines that
//     hold one leave first, but for 10 ms at most: where many write to one sync.Map all the time, the child is to
//     leave that one alone, or may hang. So may a net.Resolver of the program's own that was looking the same name up.
//   - os.Stdin, os.Stdout, os.Stderr and the file that the standard logger writes to are made anew in the child, as
//     another goroutine may have been writing. What it had buffered itself, as in a bufio.Writer, is there twice.
//   - os/signal: no Notify of the parent's holds in the child; Ignore does. signal.Notify works.
//   - Random generators that the program seeded go on alike in both processes. Those of the runtime
//     (math/rand's and math/rand/v2's top-level functions, crypto/rand) do not.
//   - Finalizers and cleanups of inherited objects run in the child too.
//   - A goroutine in C or in a system call at the fork is gone with its thread. So is one that C called: woken,
//     it does not go on. One that was locked to its thread gets a new one, without what the program had done
//     to the old one. What forks may be called from C, and returns there.
//   - A CPU profile of the parent's does not go on in the child, which may take its own. While an
//     execution trace is taken, forks fail with [ErrTracing].
//   - The race detector, coverage and the settings of GODEBUG work in the child.
//   - A fork waits for a garbage collection that is under way, then stops the world while fork(2)
//     copies the page tables: see Process.ForkTime. It holds syscall.ForkLock meanwhile.
//
// Not yet proved: programs for anything but amd64. A child that waits for what only frozen goroutines could
// send waits for ever: the runtime does not report it as a deadlock.
package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"
)

// ErrNotPatched is what a fork fails with in a program that plain go built.
var ErrNotPatched = errors.New("live: this program's runtime cannot fork: build it by livego (go run forkshm.example/shm/cmd/livego build) instead of go build")

// ErrTracing is what a fork fails with while runtime/trace takes an execution trace.
var ErrTracing = errors.New("live: no fork while an execution trace is taken")

var errNilFunc = errors.New("live: a nil function or writer")

// ErrSynctest is what a fork fails with in a bubble of testing/synctest, whose time is its own.
var ErrSynctest = errors.New("live: no fork inside a bubble of testing/synctest")

// ErrStuck is what [GoWithin] fails with where a child does not get as far as its function.
var ErrStuck = errors.New("it did not begin its function")

// call is what fork(2) made of a call; the patched runtime and live_fork in C know its layout.
type call struct {
	pid   int32
	errno int32
	held  int64 // nanoseconds
	mask  uint64
}

const (
	tracing  = -1
	synctest = -2
)

var (
	// Set by a file that livego adds to this package.
	runtimeFork      func(fork pointer, c *call)
	runtimeResetLock func(p unsafe.Pointer, size uintptr)

	runtimeCollectorOff, runtimeCollectorOn func()

	child atomic.Bool
)

// Patched reports whether this program was built so that it can fork.
func Patched() bool { return runtimeFork != nil && forkInC != nil }

// Child reports whether this process is a child of a fork of this package.
func Child() bool { return child.Load() }

// Fork is fork(2): it returns twice, in the parent with the child's process id, in the child with
// 0. The caller must see that the parent reaps the child, and that the child exits, by os.Exit: a
// return runs what the parent is to run, on the child's copy. [Go] does both. It fails with
// [ErrNotPatched], [ErrTracing], [ErrSynctest], or an [os.SyscallError]. See fork(2).
func Fork() (pid int, err error) {
	pid, _, err = fork()
	return pid, err
}

// fork is Fork, and says how long fork(2) took.
func fork() (pid int, held time.Duration, err error) {
	switch {
	case forkInC == nil:
		return 0, 0, errNoCgo
	case runtimeFork == nil:
		return 0, 0, ErrNotPatched
	}
	warm()
	fns := atFork.Load()
	fns.before()
	for _, mu := range hook.Locks {
		mu.Lock()
	}
	// As in package syscall. In the child the patch opens it.
	syscall.ForkLock.Lock()
	c := new(call)
	runtimeFork(forkInC, c)
	if c.errno == 0 && c.pid == 0 {
		child.Store(true)
		for _, mu := range hook.Locks {
			ResetLock(mu)
		}
		hook.Forked()
		renewStandardFiles()
		fns.child()
		return 0, 0, nil
	}
	syscall.ForkLock.Unlock()
	for _, mu := range hook.Locks {
		mu.Unlock()
	}
	fns.parent()
	switch {
	case c.errno == tracing:
		return 0, 0, ErrTracing
	case c.errno == synctest:
		return 0, 0, ErrSynctest
	case c.errno != 0:
		return 0, 0, os.NewSyscallError("fork", syscall.Errno(c.errno))
	}
	return int(c.pid), time.Duration(c.held), nil
}

// warm has package os and time find out now what they find out once, on first use: a goroutine that was
// just doing so would hold that lock in the child for ever.
func warm() {
	if p, err := os.FindProcess(os.Getpid()); err == nil { // whether pidfds work, for os/exec
		_ = p.Release()
	}
	time.Now().Zone() // the time zone
}

var (
	standard  = [...]*os.File{os.Stdin, os.Stdout, os.Stderr}
	inherited [][3]*os.File // kept: their finalizers would close the descriptors
)

// renewStandardFiles gives the child standard files, and a file for the standard logger, that no frozen goroutine
// is writing to. Those that the program had put in the standard files' place are its own.
func renewStandardFiles() {
	inherited = append(inherited, standard)
	for i, file := range []**os.File{&os.Stdin, &os.Stdout, &os.Stderr} {
		if *file == standard[i] {
			old := standard[i]
			*file = os.NewFile(uintptr(i), old.Name())
			standard[i] = *file
			if log.Writer() == io.Writer(old) {
				log.SetOutput(*file)
			}
		}
	}
	// A duplicate, since the program may close its own.
	if file, ok := log.Writer().(*os.File); ok && !slices.Contains(standard[:], file) {
		if file, err := duplicate(file); err == nil {
			log.SetOutput(file)
		}
	}
}

// Go forks a child that runs fn and exits with the status that it returns, by os.Exit. Deferred
// calls of the caller's do not run in the child. If fn panics, the child prints the panic and exits with
// status 2; so it does if fn calls [runtime.Goexit], as a test's FailNow does. The parent's end of the child is a [shm.Process]: wait for it. It fails with what
// [Fork] fails with.
func Go(fn func() int) (*shm.Process, error) {
	if fn == nil {
		return nil, errNilFunc
	}
	type result struct {
		process any
		err     error
	}
	results := make(chan result, 1)
	// In a goroutine of its own nothing of the caller's is below fn.
	go func() {
		p, err := hook.NewProcess(func() (int, time.Duration, error) {
			pid, held, err := fork()
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

// GoWithin is [Go] with a watchdog: a child that has not begun fn once limit has passed is killed and
// reaped, and the error wraps [ErrStuck]. The limit counts from the call, so it includes waiting for a garbage
// collection that is under way and the fork. How long fn then takes is not its affair. It returns when fn begins.
func GoWithin(limit time.Duration, fn func() int) (*shm.Process, error) {
	if fn == nil {
		return nil, errNilFunc
	}
	begun, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer begun.Close()
	defer tell.Close()
	deadline := time.Now().Add(limit)
	p, err := Go(func() int {
		_, _ = tell.Write([]byte{1}) // there is room: it need not wait in the poller
		_ = tell.Close()
		_ = begun.Close()
		return fn()
	})
	if err != nil {
		return nil, err
	}
	// Its end is no news: another child may have the pipe too, and Wait tells.
	_ = begun.SetReadDeadline(deadline)
	if _, err := begun.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		_ = p.Kill()
		if err := p.Wait(context.Background()); !isKilled(err) {
			return p, nil // it has ended on its own, just so: for Wait to tell
		}
		return nil, fmt.Errorf("live: child %d is killed: %w within %v", p.Pid(), ErrStuck, limit)
	}
	return p, nil
}

func isKilled(err error) bool {
	var exit *shm.ExitError
	return errors.As(err, &exit) && exit.Status.Signal() == syscall.SIGKILL
}
