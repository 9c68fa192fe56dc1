//go:build linux && cgo

package shared_test

import (
	"sync/atomic"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Children and goroutines lock again and again, until each has had the lock so many times. None of them
// stops before: the test ends only if no waiter starves.
func TestNoWaiterStarves(t *testing.T) {
	m, a, l := newArea(t, shm.DefaultTechnique())
	const children, goroutines, rounds = 2, 2, 300
	a.Rounds, a.Act[0] = rounds, children+goroutines
	var ended []*shm.Process
	for range children {
		ended = append(ended, fork(t, m, sharedc.Contest, &shm.ForkConfig{KillWithParent: true}))
	}
	inParallel(goroutines, func() { // as child_contest
		me := atomic.AddUint32(&a.Done, 1) - 1
		for atomic.LoadUint32(&a.Inside) < uint32(a.Act[0]) {
			if !assert.NoError(t, l.Lock(background)) {
				return
			}
			if a.Result[me]++; a.Result[me] == rounds {
				atomic.AddUint32(&a.Inside, 1)
			}
			assert.NoError(t, l.Unlock())
		}
	})
	for _, p := range ended {
		require.NoError(t, p.Wait(background))
	}
	t.Logf("two children and two goroutines, %d times at least: %v", rounds, a.Result[:a.Act[0]])
}
