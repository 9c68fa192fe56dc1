//go:build linux && cgo

package shm_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// cpuPool makes a pool of one child whose calls have so much processor time.
func cpuPool(t *testing.T, m *shm.Mapping, limit time.Duration, server bool) *shm.Pool {
	t.Helper()
	p, err := shm.NewPool(m, 1,
		&shm.PoolConfig{CPUTime: limit, ForkServer: server, RestartRate: 1e6})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this kernel does not tell a child's processor time")
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// The time counts for each call anew, however long the child has lived.
func TestCPUTimeIsThatOfOneCall(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 4*page, nil)
	p := cpuPool(t, m, 100*time.Millisecond, false)
	first := must(p.Call(background, ctest.Pid, 0, 4))
	require.Zero(t, first)
	pid := getInt(m)
	for range 6 { // together more than the limit
		_, err := p.Call(background, ctest.Spin, 0, 25)
		require.NoError(t, err)
	}
	_, err := p.Call(background, ctest.Sleep, 0, 150) // takes time, and no processor
	require.NoError(t, err)
	must(p.Call(background, ctest.Pid, 0, 4))
	assert.Equal(t, pid, getInt(m), "the child is the same")
}

// A call that uses more is ended, without a deadline, and no other one.
func TestCallThatUsesUpItsCPUTime(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 2*page, nil)
	const ever = 1000 // milliseconds: ends by itself where nothing is killed
	for _, server := range []bool{false, true} {
		p := cpuPool(t, m, 20*time.Millisecond, server)
		for _, child := range []shm.ChildFunc{ctest.Spin, ctest.SpinThreads} {
			_, err := p.Call(background, child, 0, ever)
			assert.ErrorIs(t, err, shm.ErrCPUTime)
			assert.NotErrorIs(t, err, shm.ErrNotStarted)
			assert.NotErrorIs(t, err, context.DeadlineExceeded)
			assert.Regexp(t, `^shm: call 1000 bytes: child \d+ was killed: `+
				`the call has used up its processor time of 20ms$`, err.Error())
			got, err := p.Call(background, ctest.Add, page, page)
			assert.NoError(t, err)
			assert.Zero(t, got)
		}
		assert.Equal(t, uint64(2), p.Stats().Failed)
	}
}

// A child that spends the time and writes what it likes meanwhile is ended as well.
func TestCPUTimeOfAHostileChild(t *testing.T) {
	leavesNothing(t)
	a := newAttack(t, 1, &shm.PoolConfig{CPUTime: 20 * time.Millisecond})
	for _, act := range []uint32{ctest.HostileRandom, ctest.HostileFlood} {
		*a.order = ctest.HostileOrder{Act: act, End: ctest.HostileRepeat,
			Length: uint32(shm.ControlPageSize)}
		_, err := a.pool.Call(background, ctest.Hostile, 0, page)
		if err != nil { // it may have hit upon the answer
			assert.ErrorIs(t, err, shm.ErrCPUTime)
		}
	}
}

func TestCPUTimeThatIsRefused(t *testing.T) {
	for _, limit := range []time.Duration{-1, math.MinInt64} {
		_, err := shm.NewPool(nil, 1, &shm.PoolConfig{CPUTime: limit})
		assert.ErrorIs(t, err, unix.EINVAL)
		assert.ErrorContains(t, err, "CPUTime is -")
	}
}
