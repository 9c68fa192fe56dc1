//go:build cgo

package shared

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// A gate is where threads and goroutines of all processes wait until something has changed: see
// csrc/gate.h, which is the same for C. In Go:
//
//	err := g.wait(ctx, func() bool { return the change has happened })
//	... and elsewhere, after the change:
//	g.wake()
//
// wait returns nil after ready returned true, or ctx's error. ready is called by the same goroutine.
// A goroutine waits on its thread by futex(2) for futexTime at most, and then for the bell. It looks
// again once a second, whatever happens: a hostile child may swallow what would wake it.
//
// A process may be killed after the change and before wake. Then the structure's mender calls
// g.wakeAll.

// futexTime is how long a goroutine waits by futex(2), which holds a thread.
const futexTime = 50 * time.Microsecond

// wait waits until ready returns true, or ctx ends.
func (g *gate) wait(ctx context.Context, ready func() bool) error {
	for byFutex := true; ; byFutex = false {
		seq := atomic.LoadUint32(&g.seq)
		kind := uint32(sleepsByBell)
		if byFutex {
			kind = sleepsByFutex
		}
		atomic.OrUint32(&g.sleepers, kind)
		if ready() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if byFutex {
			futexWait(&g.seq, seq, futexTime)
			continue
		}
		if err := bellWait(ctx, &g.seq, seq); err != nil {
			return err
		}
	}
}

// wake wakes all that wait at the gate. The caller has made the change by an atomic operation.
func (g *gate) wake() {
	if atomic.LoadUint32(&g.sleepers) == 0 {
		return
	}
	sleepers := atomic.SwapUint32(&g.sleepers, 0)
	atomic.AddUint32(&g.seq, 1)
	if sleepers&sleepsByFutex != 0 {
		futexWake(&g.seq, math.MaxInt32)
	}
	if sleepers&sleepsByBell != 0 {
		ring()
	}
}

// wakeAll is wake for a mender: the process that died may have taken the sleepers' flags.
func (g *gate) wakeAll() {
	atomic.StoreUint32(&g.sleepers, 0)
	atomic.AddUint32(&g.seq, 1)
	futexWake(&g.seq, math.MaxInt32)
	ring()
}
