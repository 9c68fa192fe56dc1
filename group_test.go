//go:build linux && cgo

package shm_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/hook"
)

// hasEnded says whether a process that is nobody's child here has ended:
// whether its new parent has reaped it is that one's affair.
func hasEnded(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return bytes.HasPrefix(rest, []byte("Z")) || bytes.HasPrefix(rest, []byte("X"))
}

// called runs Call, and ends its context once the child has put a number into
// the mapping, which it returns.
func called(t *testing.T, child shm.ChildFunc, cfg *shm.ForkConfig) (n int, err error) {
	t.Helper()
	m := newMapping(t, shm.Shared, page, nil)
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	done := make(chan error)
	go func() { done <- shm.Call(ctx, child, m, cfg) }()
	require.True(t, eventually(func() bool { return getInt(m) != 0 }))
	cancel()
	return getInt(m), <-done
}

func TestProcessGroupLeavesNoGrandchild(t *testing.T) {
	leavesNothing(t)
	for _, kill := range []bool{false, true} {
		cfg := &shm.ForkConfig{ProcessGroup: true, KillWithParent: kill}
		const exits, stays = 7, 256
		m := newMapping(t, shm.Shared, exits, &shm.Config{Technique: shm.Anonymous})
		p := forkedWith(t, m, ctest.Family, cfg)
		assert.Equal(t, exited(p, exits), wait(t, p))
		assert.True(t, eventually(func() bool { return hasEnded(getInt(m)) }),
			"its child has ended with it")

		m = newMapping(t, shm.Shared, stays, &shm.Config{Technique: shm.Anonymous})
		p = forkedWith(t, m, ctest.Family, cfg)
		group, err := unix.Getpgid(p.Pid())
		require.NoError(t, err)
		assert.Equal(t, p.Pid(), group)
		require.True(t, eventually(func() bool { return getInt(m) != 0 }))
		assert.False(t, hasEnded(getInt(m)))
		assert.NoError(t, p.Kill())
		assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
		assert.True(t, eventually(func() bool { return hasEnded(getInt(m)) }))
	}
}

func TestWithoutProcessGroupAGrandchildGoesOn(t *testing.T) {
	leavesNothing(t)
	// The length tells the grandchild to stay.
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	p := forked(t, m, ctest.Family)
	group, err := unix.Getpgid(p.Pid())
	require.NoError(t, err)
	assert.Equal(t, unix.Getpgrp(), group)
	require.True(t, eventually(func() bool { return getInt(m) != 0 }))
	assert.NoError(t, p.Kill())
	assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
	assert.False(t, hasEnded(getInt(m)))
	assert.NoError(t, unix.Kill(getInt(m), unix.SIGKILL))
}

// A child that its own child traces cannot be reaped before that ends. Call
// returns all the same.
func TestCallOfAChildThatIsTraced(t *testing.T) {
	leavesNothing(t)
	defer func(d time.Duration) { hook.KillTimeout = d }(hook.KillTimeout)
	hook.KillTimeout = 100 * time.Millisecond
	tracer, err := called(t, ctest.Traced, nil)
	if tracer < 0 {
		t.Skip("this system lets no child trace its parent: ", unix.Errno(-tracer))
	}
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "was sent SIGKILL but did not end within 100ms")
	assert.NoError(t, unix.Kill(tracer, unix.SIGKILL))
	assert.True(t, eventually(func() bool { return shm.ReadCounters().Live == 0 }),
		"it is reaped when it can be")

	hook.KillTimeout = time.Minute
	tracer, err = called(t, ctest.Traced, &shm.ForkConfig{ProcessGroup: true})
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "was killed")
	assert.True(t, eventually(func() bool { return hasEnded(tracer) }))
	assert.Zero(t, shm.ReadCounters().Live)
}

func TestPoolCallOfAChildThatIsTraced(t *testing.T) {
	leavesNothing(t)
	defer func(d time.Duration) { hook.KillTimeout = d }(hook.KillTimeout)
	hook.KillTimeout = 100 * time.Millisecond
	m := newMapping(t, shm.Shared, page, nil)
	pool := newPool(t, m, 1, nil)
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	failed := make(chan error)
	go func() {
		_, err := pool.Call(ctx, ctest.Traced, 0, 0) // a tracer of another process group
		failed <- err
	}()
	require.True(t, eventually(func() bool { return getInt(m) != 0 }))
	tracer := getInt(m)
	cancel()
	err := <-failed
	assert.ErrorIs(t, err, context.Canceled)
	if tracer > 0 { // or this system lets no child trace its parent
		assert.NoError(t, unix.Kill(tracer, unix.SIGKILL))
	}
	hook.KillTimeout = time.Minute
	_, err = pool.Call(background, ctest.Increment, 8, 4)
	assert.NoError(t, err)
	assert.NoError(t, pool.Close())
}
