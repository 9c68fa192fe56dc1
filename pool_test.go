//go:build linux && cgo

package shm_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

var background = context.Background()

func newPool(t testing.TB, m *shm.Mapping, n int, cfg *shm.PoolConfig) *shm.Pool {
	t.Helper()
	p, err := shm.NewPool(m, n, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			assert.ErrorIs(t, err, shm.ErrPoolClosed)
		}
	})
	return p
}

func TestPoolCallsRunInItsChildren(t *testing.T) {
	leavesNothing(t)
	for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero} {
		m := newMapping(t, shm.Shared, 4*page, &shm.Config{Technique: technique})
		p := newPool(t, m, 3, &shm.PoolConfig{Fork: shm.ForkConfig{Lean: true, CloseFDs: true}})
		forks := shm.ReadCounters().Forks
		var calls sync.WaitGroup
		for g := range 8 {
			calls.Add(1)
			go func() {
				defer calls.Done()
				for i := range 200 {
					got, err := p.Call(background, ctest.Increment, 4*g, 4)
					assert.NoError(t, err)
					assert.Zero(t, got)
					if i%50 == 0 { // long enough to be waited for in the poller
						_, err = p.Call(background, ctest.Sleep, 0, 3)
						assert.NoError(t, err)
					}
				}
			}()
		}
		calls.Wait()
		for g := range 8 {
			assert.Equal(t, int32(200), *must(shm.At[int32](m, 4*g)))
		}
		fill(m.Bytes()[page:2*page], 3)
		sum, err := p.Call(background, ctest.Add, page, page)
		assert.NoError(t, err)
		assert.Equal(t, 3*page, sum)
		assert.Equal(t, forks, shm.ReadCounters().Forks, "no child was forked for a call")
		assert.Equal(t, shm.PoolStats{Calls: 8*204 + 1}, p.Stats())
	}
}

func TestPoolReplacesWhatCrashed(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 2, &shm.PoolConfig{RestartRate: 1000})
	var calls sync.WaitGroup
	for range 4 {
		calls.Add(1)
		go func() {
			defer calls.Done()
			for i := range 40 {
				if i%4 == 0 {
					_, err := p.Call(background, ctest.Crash, 0, 1)
					var exit *shm.ExitError
					if assert.ErrorAs(t, err, &exit) {
						assert.Equal(t, unix.SIGSEGV, exit.Status.Signal())
						assert.Equal(t, uintptr(16), exit.Crash.Addr)
					}
				} else {
					_, err := p.Call(background, ctest.Count, 0, 4)
					assert.NoError(t, err)
				}
			}
		}()
	}
	calls.Wait()
	assert.Equal(t, 4*30*10000, getInt(m), "no other call was lost, or done twice")
	assert.Equal(t, uint64(40), p.Stats().Failed)
	assert.NoError(t, p.Close())
}

func TestPoolCallEndsWithItsContext(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 1, nil)
	for range 3 {
		ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
		_, err := p.Call(ctx, ctest.Pause, 0, 0)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
		_, err = p.Call(background, ctest.Count, 0, 4)
		assert.NoError(t, err)
	}
	assert.Equal(t, 30000, getInt(m))

	// Who waits for a child that is free need not wait longer either.
	calls := p.Stats().Calls
	busy, cancel := context.WithCancel(background)
	var call sync.WaitGroup
	call.Add(1)
	go func() {
		defer call.Done()
		_, err := p.Call(busy, ctest.Until, 8, 4)
		assert.ErrorIs(t, err, context.Canceled)
	}()
	require.True(t, eventually(func() bool { return p.Stats().Calls == calls+1 }))
	short, cancelShort := context.WithTimeout(background, time.Millisecond)
	defer cancelShort()
	_, err := p.Call(short, ctest.Increment, 0, 4)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	cancel()
	call.Wait()
}

// A child that was lost between two calls costs none of them.
func TestPoolSurvivesTheLossOfIdleChildren(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 1, nil)
	for range 3 {
		_, err := p.Call(background, ctest.Pid, 0, 4)
		require.NoError(t, err)
		require.NoError(t, unix.Kill(getInt(m), unix.SIGKILL))
		got, err := p.Call(background, ctest.Add, page-4, 4)
		assert.NoError(t, err)
		assert.Zero(t, got)
	}
	// One that closes all descriptors can tell what it did only by ending.
	for range 3 {
		_, err := p.Call(background, ctest.CloseAll, 0, 0)
		assert.NoError(t, err)
		_, err = p.Call(background, ctest.Sleep, 0, 5)
		assert.NoError(t, err)
	}
}

func TestPoolLimitsRestarts(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	began := time.Now()
	p := newPool(t, m, 1, &shm.PoolConfig{RestartRate: 5})
	for p.Stats().Restarts < 8 {
		_, err := p.Call(background, ctest.Crash, 0, 1)
		assert.ErrorAs(t, err, new(*shm.ExitError))
	}
	took := time.Since(began)
	// Five at once, and one more each fifth of a second: a slow machine may take longer, never
	// less.
	assert.LessOrEqual(t, p.Stats().Restarts, 5+uint64(took/(200*time.Millisecond))+1)
	assert.GreaterOrEqual(t, took, 400*time.Millisecond)
}

func TestPoolClose(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 2, nil)
	var calls sync.WaitGroup
	for range 4 {
		calls.Add(1)
		go func() {
			defer calls.Done()
			_, err := p.Call(background, ctest.Pause, 0, 0)
			assert.ErrorIs(t, err, shm.ErrPoolClosed)
		}()
	}
	require.True(t, eventually(func() bool { return p.Stats().Calls == 2 }))
	assert.NoError(t, p.Close())
	calls.Wait()
	assert.Zero(t, shm.ReadCounters().Live)
	assert.EqualError(t, p.Close(), "shm: close: pool is closed")
	_, err := p.Call(background, ctest.Increment, 0, 4)
	assert.EqualError(t, err, "shm: call: pool is closed")
}

func TestPoolRefuses(t *testing.T) {
	_, err := shm.NewPool(newMapping(t, shm.Private, page, nil), 1, nil)
	assert.ErrorIs(t, err, unix.EINVAL)
	m := newMapping(t, shm.Shared, page, nil)
	_, err = shm.NewPool(m, 0, nil)
	assert.ErrorIs(t, err, unix.EINVAL)
	_, err = shm.NewPool(m, 2,
		&shm.PoolConfig{Fork: shm.ForkConfig{Limits: []shm.Limit{{Resource: 99}}}})
	assert.ErrorIs(t, err, unix.EINVAL)
	p := newPool(t, m, 1, nil)
	for _, at := range [][2]int{{-1, 1}, {0, page + 1}, {page, 1}, {1, -1}} {
		_, err := p.Call(background, ctest.Increment, at[0], at[1])
		assert.ErrorIs(t, err, shm.ErrRange)
	}
	_, err = p.Call(background, nil, 0, 1)
	assert.ErrorIs(t, err, unix.EINVAL)
	require.NoError(t, m.Close())
	_, err = p.Call(background, ctest.Increment, 0, 4)
	assert.EqualError(t, err, "shm: call: mapping is closed")
	require.NoError(t, p.Close())
	_, err = p.Call(background, ctest.Increment, 0, 4)
	assert.EqualError(t, err, "shm: call: pool is closed")
	for _, n := range []int{-1, 1<<22 + 1, math.MaxInt} {
		_, err := shm.NewPool(newMapping(t, shm.Shared, page, nil), n, nil)
		assert.ErrorIs(t, err, unix.EINVAL, "%d children", n)
	}
	_, err = shm.NewPool(newMapping(t, shm.Shared, page, nil), 1,
		&shm.PoolConfig{InheritFDs: true, Fork: shm.ForkConfig{CloseFDs: true}})
	assert.ErrorIs(t, err, unix.EINVAL)
}

// What cannot be replaced is said, and tried again.
func TestPoolSaysWhyThereIsNoChild(t *testing.T) {
	if !interposed(t) {
		return
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 1, &shm.PoolConfig{RestartRate: 1000})
	t.Setenv("SHM_TEST_FORK_ERRNO", strconv.Itoa(int(unix.EAGAIN)))
	_, err := p.Call(background, ctest.Crash, 0, 1)
	var exit *shm.ExitError
	assert.ErrorAs(t, err, &exit)
	for range 3 {
		_, err = p.Call(background, ctest.Increment, 0, 4)
		assert.EqualError(t, err, fmt.Sprintf("shm: call 4 bytes: shm: fork %d bytes: fork: "+
			"resource temporarily unavailable", page))
		assert.ErrorIs(t, err, unix.EAGAIN)
	}
	t.Setenv("SHM_TEST_FORK_ERRNO", "")
	_, err = p.Call(background, ctest.Increment, 0, 4)
	assert.NoError(t, err)
	assert.Equal(t, 1, getInt(m))
	assert.NoError(t, p.Close())
}

// A pool whose fresh children end before they can serve says how they end,
// rather than to fork for ever.
func TestPoolSaysThatItsChildrenDoNotLive(t *testing.T) {
	if !interposed(t) {
		return
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 1, &shm.PoolConfig{RestartRate: 1000})
	_, err := p.Call(background, ctest.Pid, 0, 4)
	require.NoError(t, err)
	t.Setenv("SHM_TEST_STEP", "70")
	require.NoError(t, unix.Kill(getInt(m), unix.SIGKILL))
	for range 3 {
		_, err = p.Call(background, ctest.Increment, 8, 4)
		var exit *shm.ExitError
		if assert.ErrorAs(t, err, &exit) {
			assert.Equal(t, unix.SIGKILL, exit.Status.Signal())
		}
	}
	t.Setenv("SHM_TEST_STEP", "")
	assert.True(t, eventually(func() bool { // the first may find a child that was being forked
		_, err := p.Call(background, ctest.Increment, 8, 4)
		return err == nil
	}))
	assert.NoError(t, p.Close())
}

func TestForgottenPoolIsClosed(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	func() {
		_, err := shm.NewPool(m, 2, nil)
		require.NoError(t, err)
	}()
	assert.True(t, eventually(func() bool {
		runtime.GC()
		return shm.ReadCounters().Live == 0
	}))
}
