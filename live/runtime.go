package live

import (
	"sync/atomic"
	"unsafe"
)

// call has the results of fork(2). The patched runtime and live_fork in C know
// its layout.
type call struct {
	pid   int32
	errno int32
	held  int64 // nanoseconds
	//lint:ignore U1000 live_fork keeps the signal mask here
	mask uint64

	limit  int64    // nanoseconds that the child has to begin, 0 for any
	timers [2]int32 // in the child, those that end it at the limit
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

	runtimePoller func() []int // the poller's descriptors

	child atomic.Bool
)

// Patched reports whether this program was built so that it can fork.
func Patched() bool { return runtimeFork != nil && forkInC != nil }

// Child reports whether this process is a child of a fork of this package.
func Child() bool { return child.Load() }

func canFork() error {
	switch {
	case forkInC == nil:
		return errNoCgo
	case runtimeFork == nil:
		return ErrNotPatched
	}
	return nil
}
