// Package live forks Go programs: the child goes on in Go, at the line after
// the fork, with all of the parent's memory as it was at that instant.
//
//	child, err := live.Go(func() int { return save(database) })
//	if err != nil {
//		return err // ErrNotPatched: the program was not built by livego
//	}
//	err = child.Wait(ctx)
//
// It needs a runtime that knows of it: build, run and test the program by
// livego in place of go (go install forkshm.example/shm/cmd/livego), on Linux,
// with cgo, by Go 1.24 to 1.27. Built by plain go the package compiles, and its
// forks fail with [ErrNotPatched].
//
// # What the child is
//
// Only the goroutine that forked goes on. Every other stays where it was, for
// ever, unless the child's own code wakes it, as by a send on the channel that
// it receives from. Deferred calls of goroutines that stay do not run. The
// runtime is whole: new goroutines, garbage collection, timers, network,
// os/exec, signals, cgo, and further forks.
//
// # Rules
//
//   - A lock that another goroutine held at the fork stays held in the child: a sync.Mutex, those inside
//     packages and inside values such as a [shm.Mapping]. Take what the child needs before forking, or see
//     [AtFork] and [ResetLock]. The locks of the environment, of every log.Logger, and of the handlers that log/slog
//     has are free in the child, and so are the locks in variables of the standard library, such as that of package
//     mime's types. Package expvar's is not. Loggers of other packages, such as zap and zerolog, have locks of their own
//     where several goroutines write to one file (zapcore.Lock, zerolog.SyncWriter): the child makes a logger anew. So
//     with a slog.Handler of the program's own.
//   - A sync.Once whose function another goroutine was running at the fork begins anew in the child: its next Do
//     there calls its own function, and what the first call had done by then stays done. The same holds for
//     sync.OnceFunc, OnceValue and OnceValues. See pthread_once(3).
//   - Unlocking, in the child, a lock that others wait for wakes one of them, there.
//   - Timers and tickers of the parent do not fire in the child, until it resets them; but one with a channel
//     that nobody was receiving from does, once the child receives from it. Deadlines of inherited connections
//     do not expire, nor do those of inherited contexts. A context that the child derives from an inherited one
//     has that one's deadline, and expires. context.WithoutCancel is for one that is to end later.
//   - Inherited sockets, pipes and listeners are shared with the parent, and the child's poller does not
//     know them: a read that has to wait waits for ever. For one of its own the child takes a
//     duplicate (dup(2)) into a new net.Conn: the File of a connection, taken before the fork, by net.FileConn.
//     Files share their offset, their locks by flock(2), and O_NONBLOCK: the Fd of an os.File may clear that, in the
//     parent too, where SyscallConn does not.
//   - What the parent closes stays open in the child: a peer sees no end, a port stays taken, a lock by flock(2)
//     stays held. [Config] has DropFDs against that, and a [Snapshot] does the same. A Unix listener's file is the
//     parent's: a child that closes an inherited one leaves the file, unless it calls SetUnlinkOnClose.
//   - What keeps connections,
//     such as an http.Transport or an sql.DB, is made anew by a child that needs one: a request by the parent's
//     would be written to a connection that the parent uses, and closing it tell its peer. http.DefaultTransport
//     is looked after: in the child it has none.
//   - Not even anew may a child open a database of SQLite that its parent has open: SQLite notes its locks in the
//     process's memory, which says in the child that they are held, so that no lock is taken and the child reads what
//     the parent is just writing. Close the database before the fork, or have the child run a program (os/exec).
//   - Memory that is mapped shared (mmap(2), MAP_SHARED) is not frozen: the child sees what the parent writes. A
//     database that maps its file, such as bbolt, is read in the child by a transaction that was begun before the
//     fork, and that the parent ends after the child.
//   - A sync.Map, unique.Make, a sync.Pool and the encoders of package encoding/json have locks inside that nobody
//     can take before a fork. In the child these are free. An operation that another goroutine was in the midst of
//     is there done or not done. A net.Resolver of the program's own that was looking a name up never gets the
//     answer: the child leaves that name alone, or takes another Resolver.
//   - os.Stdin, os.Stdout, os.Stderr and the file that the standard logger writes to are made anew in the child, as
//     another goroutine may have been writing; not one that the program had closed. What it had buffered itself, as in
//     a bufio.Writer, is there twice.
//   - os/signal: no Notify of the parent's holds in the child; Ignore does. signal.Notify works.
//   - Random generators that the program seeded go on alike in both processes. Those of the runtime
//     (math/rand's and math/rand/v2's top-level functions, crypto/rand) do not.
//   - Finalizers and cleanups of inherited objects run in the child too.
//   - A goroutine in C or in a system call at the fork is gone with its thread. So is one that C called: woken,
//     it does not go on. One that was locked to its thread gets a new one, without what the program had done
//     to the old one. What forks may be called from C, and returns there.
//   - A CPU profile of the parent's does not go on in the child, which may take its own. While an
//     execution trace is taken, forks fail with [ErrTracing]. Where another goroutine
//     was just beginning or ending one, the child must take none of its own: that may wait for ever.
//   - The race detector, coverage and the settings of GODEBUG work in the child.
//   - Traces in the child have all goroutines, with ", inherited" in the state of those that it did not start, as in
//     "goroutine 7 [chan receive, inherited]:". A leak checker is to leave them out, as by goleak.IgnoreCurrent at
//     the child's beginning.
//   - A test that fails in a child, as by t.Error, prints so to standard error, and the child exits with status 1
//     whatever its function returns. The test fails in the parent where that asserts the child's status.
//   - A fork waits for a garbage collection that is under way, then stops the world once, while fork(2)
//     copies the page tables: see Process.ForkTime.
//   - A fork takes some locks first, and so waits for the goroutines that hold them: those that functions of [AtFork]
//     take; those of package shm; syscall.ForkLock; that of the environment; and those of four caches, which
//     belong to encoding/gob, math/big, http.DefaultServeMux and os.Getwd. Other goroutines hold each for a
//     moment, but ForkLock while os/exec starts a program, up to its execve(2). A fork waits for no other lock of
//     the program's.
//
// Not yet proved: programs for anything but amd64. A child that waits for what
// only frozen goroutines could send waits for ever: the runtime does not report
// it as a deadlock.
package live

import (
	"os"
	"syscall"
	"time"

	"forkshm.example/shm/internal/hook"
)

// Fork is fork(2): it returns twice, in the parent with the child's process id,
// in the child with
// 0. The caller must see that the parent reaps the child, and that the child exits, by os.Exit: a
// return runs what the parent is to run, on the child's copy. [Go] does both.
// It fails with [ErrNotPatched], [ErrTracing], [ErrSynctest], or an
// [os.SyscallError]. See fork(2).
func Fork() (pid int, err error) {
	pid, _, err = fork(nil, 0)
	return pid, err
}

// fork is Fork, and says how long fork(2) took. The child lets go of what d
// says, nil for nothing, before functions of AtFork open anything.
func fork(d *dropping, owner uint32) (pid int, held time.Duration, err error) {
	if err := canFork(); err != nil {
		return 0, 0, err
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
		startChild(d, owner)
		fns.child()
		return 0, 0, nil
	}
	syscall.ForkLock.Unlock()
	for _, mu := range hook.Locks {
		mu.Unlock()
	}
	fns.parent()
	if c.errno != 0 {
		return 0, 0, forkError(c.errno)
	}
	return int(c.pid), time.Duration(c.held), nil
}

// startChild renews in the child what no child may share with its parent.
func startChild(d *dropping, owner uint32) {
	child.Store(true)
	for _, mu := range hook.Locks {
		ResetLock(mu)
	}
	hook.SetOwner(owner)
	hook.Forked()
	renewStandardFiles()
	if d != nil {
		d.inChild()
	}
}

func forkError(errno int32) error {
	switch errno {
	case tracing:
		return ErrTracing
	case synctest:
		return ErrSynctest
	}
	return os.NewSyscallError("fork", syscall.Errno(errno))
}

// warm has package os and time find out now what they find out once, on first
// use: a goroutine that was just doing so would hold that lock in the child for
// ever.
func warm() {
	if p, err := os.FindProcess(os.Getpid()); err == nil { // whether pidfds work, for os/exec
		_ = p.Release()
	}
	_, _ = time.Now().Zone() // the time zone
}
