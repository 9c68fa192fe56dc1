package live

import (
	"sync/atomic"
	"time"
)

// watchdog is how long a child has to begin, in nanoseconds.
var watchdog atomic.Int64

func init() { watchdog.Store(int64(5 * time.Minute)) }

// Set by a file that livego adds to this package.
var (
	runtimeWatch  func(on bool)
	runtimeAttend func()
	runtimeHelp   func(threads int)
)

// SetWatchdog sets how long a later child may take to begin, and returns the
// former limit, which is 5 minutes at first. A child has begun when its
// functions of [AtFork] have returned, and when it has let go of what it
// inherits. A child that takes longer gets SIGQUIT. It prints its goroutines,
// and exits with status 2. If it has not ended 10 seconds later, it gets
// SIGKILL.
//
// The watchdog also finds a child that cannot go on. If all that its own
// goroutines wait for is locks, channels and the like, or descriptors that were
// open at the fork, nothing will ever wake them: the goroutines that could are
// frozen. Such a child prints which goroutine waits for what, and which frozen
// goroutines have a pointer to that, with the line at which each stands. It
// exits with status 2, as a program with a deadlock does. A child whose
// goroutines wait by an empty select alone is left to wait: somebody may kill
// it.
//
// What may yet wake a child keeps the watchdog quiet: a pending timer, a
// descriptor that the child has opened, a goroutine in a system call or in C, a
// thread that is not Go's, a signal for [os/signal.Notify].
//
// A limit of 0 or less switches all of that off. See timer_create(2).
func SetWatchdog(limit time.Duration) (former time.Duration) {
	if runtimeWatch != nil {
		runtimeWatch(limit > 0)
	}
	return time.Duration(watchdog.Swap(int64(max(0, limit))))
}

// attend is called by a goroutine of this package that waits in a child beside
// the program's goroutines.
func attend() {
	if runtimeAttend != nil {
		runtimeAttend()
	}
}
