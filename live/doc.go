// Package live forks Go programs. The child goes on in Go, at the line after
// the fork, with all of the parent's memory as it was at that instant.
//
//	child, err := live.Go(func() int { return save(database) })
//	if err != nil {
//		return err // ErrNotPatched: the program was not built by livego
//	}
//	err = child.Wait(ctx)
//
// A fork needs the help of the Go runtime. The command livego builds a program
// with a runtime that can fork. Use livego in place of go to build, run and
// test the program (go install forkshm.example/shm/cmd/livego). A fork also
// needs Linux, cgo, and Go 1.24 to 1.27. If plain go built the program, the
// package compiles, and forks fail with [ErrNotPatched].
//
// # What the child is
//
// Only the goroutine that forked goes on in the child. All other goroutines are
// frozen there: each stays where it was at the fork, for ever, unless the
// child's own code wakes it. A send on the channel that the goroutine receives
// from would wake it. Deferred calls of frozen goroutines do not run.
//
// The child's runtime is whole. New goroutines, garbage collection, timers, the
// network, os/exec, signals, cgo and further forks work.
//
// A child that waits for something that only a frozen goroutine could do ends
// with a dump, as a program with a deadlock does: see [SetWatchdog]. [Check] lists
// in the parent what a child could not use.
//
// # Locks
//
//   - A lock that another goroutine held at the fork stays held in the child.
//     That holds for a sync.Mutex, and for the locks inside of packages and of
//     values such as a [shm.Mapping]. Take the locks that the child needs
//     before the fork, or see [AtFork] and [ResetLock].
//   - Some locks are free in the child: those of the environment, of each
//     log.Logger, of the handlers of log/slog, and those in variables of the
//     standard library, such as the lock of package mime's types. The lock of
//     package expvar is not.
//   - Other packages' loggers, such as zap's and zerolog's, have a lock if
//     several goroutines write to one file (zapcore.Lock, zerolog.SyncWriter).
//     The child makes a new logger. The same holds for a slog.Handler that the
//     program has written itself.
//   - A child that unlocks a lock for which frozen goroutines wait wakes one of
//     them, in the child.
//   - A sync.Once whose function was running at the fork, in another goroutine,
//     begins anew in the child. The child's next Do calls its own function.
//     What the first call had done by then stays done. The same holds for
//     sync.OnceFunc, OnceValue and OnceValues. See pthread_once(3).
//   - A sync.Map, unique.Make, a sync.Pool and the encoders of encoding/json
//     have locks inside that nobody can take before a fork. These locks are
//     free in the child. In the child, an operation that another goroutine had
//     begun is either done or not done.
//
// # Files and connections
//
//   - The child shares inherited sockets, pipes and listeners with the parent.
//     The child's poller does not know them, so a read that has to wait waits
//     for ever. To use a connection, the child duplicates it (dup(2)) into a
//     new net.Conn: the program calls the connection's File before the fork,
//     and the child passes that file to net.FileConn.
//   - Parent and child share a file's offset, its locks by flock(2), and
//     O_NONBLOCK. The Fd method of an os.File may clear O_NONBLOCK, in the
//     parent too. SyscallConn does not.
//   - What the parent closes stays open in the child: a peer sees no end, a
//     port stays taken, and a lock by flock(2) stays held. [Config].DropFDs
//     prevents that, and so does [Snapshot].
//   - The file of a Unix listener belongs to the parent. A child that closes an
//     inherited listener leaves the file, unless the child calls
//     SetUnlinkOnClose.
//   - An http.Transport, an sql.DB and the like keep connections. A child that
//     needs one makes a new one. Otherwise the child would write requests to
//     connections that the parent uses, and the peer would see them closed.
//     http.DefaultTransport has no connections in the child.
//   - If a net.Resolver of the program was looking up a name at the fork, it
//     never gets the answer in the child. The child must not look up that name,
//     or must make a new Resolver.
//   - A child must not open a database of SQLite that its parent has open.
//     SQLite notes the locks that it holds in the process's memory. In the
//     child that memory says that the locks are held, so the child takes none,
//     and reads while the parent writes. Close the database before the fork, or
//     have the child run a program (os/exec).
//   - os.Stdin, os.Stdout, os.Stderr and the standard logger's file are new
//     os.Files in the child, since another goroutine may have been writing to
//     them. A file that the program had closed stays closed. Both processes
//     write what a bufio.Writer held at the fork.
//
// # Memory
//
//   - Memory that is mapped shared (MAP_SHARED, see mmap(2)) is not frozen: the
//     child sees what the parent writes. bbolt and other databases map their
//     file in this way. The child reads such a database in a transaction that
//     was begun before the fork, and that the parent ends after the child.
//   - Finalizers and cleanups of inherited objects run in the child, too.
//   - Random generators that the program seeded return the same numbers in both
//     processes. Those of the runtime do not: the top-level functions of
//     math/rand and math/rand/v2, and crypto/rand.
//
// # Time and signals
//
//   - Timers and tickers of the parent do not fire in the child until the child
//     resets them. There is one exception: a timer with a channel from which
//     nobody was receiving fires once the child receives from it.
//   - Deadlines of inherited connections and contexts do not expire in the
//     child. A context that the child derives from an inherited one has the
//     inherited deadline, and expires. If the context must live longer, derive
//     it by context.WithoutCancel.
//   - The parent's calls of signal.Notify have no effect in the child. Its
//     calls of signal.Ignore have. The child may call signal.Notify.
//
// # Threads
//
//   - A goroutine that was in C or in a system call at the fork is gone with
//     its thread. So is a goroutine that C had called: it does not go on if it
//     is woken.
//   - A goroutine that was locked to its thread gets a new thread, which lacks
//     what the program had done to the old one.
//   - The function that forks may be called from C, and returns to C.
//
// # Tests, profiles and traces
//
//   - The race detector, coverage and the settings of GODEBUG work in the
//     child.
//   - A CPU profile of the parent does not go on in the child. The child may
//     start one.
//   - While an execution trace is taken, forks fail with [ErrTracing]. The
//     child may take one.
//   - A traceback in the child shows all goroutines. The state of a frozen one
//     ends in ", inherited", as in "goroutine 7 [chan receive, inherited]:".
//     Have a leak checker ignore them, as by goleak.IgnoreCurrent when the
//     child begins.
//   - A test that fails in a child, as by t.Error, prints the failure to
//     standard error. The child then exits with status 1, whatever its function
//     returns. So the test must assert the child's status in the parent.
//
// # What a fork waits for
//
// A fork waits for a garbage collection that is under way. Then the fork stops
// the world once, while fork(2) copies the page tables: see Process.ForkTime.
//
// Before that, the fork takes some locks, and so waits for the goroutines that
// hold them: the locks that functions of [AtFork] take, those of package shm,
// syscall.ForkLock, the lock of the environment, and the locks of four caches.
// The caches belong to encoding/gob, math/big, http.DefaultServeMux and
// os.Getwd. Other goroutines hold each of these locks for a moment only, except
// for ForkLock: os/exec holds it while a program starts, up to its execve(2). A
// fork waits for no other lock of the program.
//
// # Where it runs
//
// Programs for amd64 and arm64 were tested: docs/PLATFORMS.md of the module has
// what was run. [Snapshot], [SnapshotTo], [GoWithin] and Config.BeginWithin need
// pidfd_open(2). They fail where a seccomp(2) filter or gVisor denies it.
package live
