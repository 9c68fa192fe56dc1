//go:build linux && cgo

package shm_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// What no child has begun can be made again, and what was ended half-way cannot.
func TestPoolErrorsTellWhetherACallWasBegun(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 1, nil)
	begun, cancel := context.WithCancel(background)
	half := make(chan error)
	go func() {
		_, err := p.Call(begun, ctest.Begin, 0, 4)
		half <- err
	}()
	require.True(t, eventually(func() bool {
		return atomic.LoadInt32(must(shm.At[int32](m, 0))) == 1
	}))

	var waiting context.Context
	limit := time.Millisecond
	assert.True(t, eventually(func() bool { // the context may end before the call begins
		var cancelWaiting func()
		waiting, cancelWaiting = context.WithTimeout(background, limit)
		limit *= 2
		defer cancelWaiting()
		_, err := p.Call(waiting, ctest.Increment, 0, 4)
		assert.ErrorIs(t, err, shm.ErrNotStarted)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		return err.Error() == "shm: call 4 bytes: no child was free: context deadline exceeded"
	}))
	_, err := p.Do(waiting, ctest.DoEcho, nil)
	assert.ErrorIs(t, err, shm.ErrNotStarted)
	assert.ErrorIs(t, err, context.DeadlineExceeded)

	cancel()
	err = <-half
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, shm.ErrNotStarted)
	_, err = p.Call(background, ctest.Crash, 0, 1)
	assert.ErrorAs(t, err, new(*shm.ExitError))
	assert.NotErrorIs(t, err, shm.ErrNotStarted)

	require.NoError(t, p.Close())
	_, err = p.Call(background, ctest.Increment, 0, 4)
	assert.ErrorIs(t, err, shm.ErrNotStarted)
	assert.ErrorIs(t, err, shm.ErrPoolClosed)
	_, err = p.Call(background, nil, 0, 4) // would fail again
	assert.NotErrorIs(t, err, shm.ErrNotStarted)
}

// A child that is stopped has not begun the call, which ends with its context.
func TestPoolCallOfAStoppedChild(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 1, nil)
	pid := int(binary.NativeEndian.Uint32(must(p.Do(background, ctest.DoPid, nil))))
	require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
	require.True(t, eventually(func() bool {
		stat := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))))
		return strings.Contains(stat, ") T ")
	}))
	ctx, cancel := context.WithTimeout(background, 5*time.Millisecond)
	defer cancel()
	_, err := p.Call(ctx, ctest.Increment, 0, 4)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorIs(t, err, shm.ErrNotStarted)
	assert.Zero(t, getInt(m))
	require.NoError(t, p.Close())
}

func TestPoolReplacesAChildAfterMaxCalls(t *testing.T) {
	leavesNothing(t)
	const calls = 30
	for _, most := range []int{1, 3} {
		p := newPool(t, nil, 2, &shm.PoolConfig{MaxCalls: most, RestartRate: 1})
		served := map[int]int{}
		for i := range calls {
			var info shm.CallInfo
			ctx := shm.WithCallInfo(background, &info)
			out, err := p.Do(ctx, ctest.DoPid, nil)
			require.NoError(t, err)
			assert.Equal(t, info.Pid, int(binary.NativeEndian.Uint32(out)))
			served[info.Pid]++
			if i%7 == 3 { // also where the function fails
				_, err = p.Do(ctx, ctest.DoFail, nil)
				assert.ErrorAs(t, err, new(*shm.ResultError))
				served[info.Pid]++
			}
		}
		for pid, n := range served {
			assert.LessOrEqual(t, n, most, pid)
		}
		assert.Zero(t, p.Stats().Restarts, "RestartRate is not for these")
		assert.NotZero(t, p.Stats().Retired)
		require.NoError(t, p.Close())
	}
	_, err := shm.NewPool(nil, 1, &shm.PoolConfig{MaxCalls: -1})
	assert.ErrorIs(t, err, unix.EINVAL)
}

func TestCallInfoTellsWhichChildServed(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 1, nil)
	var info shm.CallInfo
	ctx := shm.WithCallInfo(background, &info)
	_, err := p.Call(ctx, ctest.Pid, 0, 4)
	require.NoError(t, err)
	assert.Equal(t, getInt(m), info.Pid)
	assert.Positive(t, info.Ran)
	assert.GreaterOrEqual(t, info.Waited, time.Duration(0))

	_, err = p.Call(ctx, ctest.Crash, 0, 1)
	var exit *shm.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, exit.Pid, info.Pid)

	busy := make(chan struct{})
	done := make(chan error)
	go func() {
		done <- p.DoView(background, ctest.DoEcho, nil, func([]byte) error {
			close(busy)
			<-done
			return nil
		})
	}()
	<-busy
	assert.True(t, eventually(func() bool { // the context may end before the call begins
		late, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		_, err := p.Call(late, ctest.Pid, 0, 4)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Zero(t, info.Pid)
		return info.Waited > 0
	}))
	done <- nil
	assert.NoError(t, <-done)
}

// Drain lets calls end that have begun, and no other begin.
func TestPoolDrain(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 2, nil)
	word := must(shm.At[int32](m, 0))
	results := make(chan error)
	go func() {
		got, err := p.Call(background, ctest.Until, 0, 4)
		assert.Equal(t, 7, got)
		results <- err
	}()
	require.True(t, eventually(func() bool { return p.Stats().Calls == 1 }))
	drained := make(chan error)
	go func() { drained <- p.Drain(background) }()
	require.True(t, eventually(func() bool {
		_, err := p.Call(background, ctest.Add, 8, 4)
		return err != nil
	}))
	_, err := p.Call(background, ctest.Add, 8, 4)
	assert.ErrorIs(t, err, shm.ErrPoolClosed)
	assert.ErrorIs(t, err, shm.ErrNotStarted)
	select {
	case err := <-drained:
		t.Fatal("drained beside a call that is in progress", err)
	default:
	}
	atomic.StoreInt32(word, 7)
	assert.NoError(t, <-results)
	assert.NoError(t, <-drained)
	assert.ErrorIs(t, p.Drain(background), shm.ErrPoolClosed)
	assert.ErrorIs(t, p.Close(), shm.ErrPoolClosed)
}

// Drain's context, another Drain's, and Close end what Drain waits for.
func TestPoolDrainEnds(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for name, end := range map[string]func(p *shm.Pool, cancel func()) error{
		"context": func(_ *shm.Pool, cancel func()) error { cancel(); return nil },
		"close":   func(p *shm.Pool, _ func()) error { return p.Close() },
		"another": func(p *shm.Pool, _ func()) error {
			ctx, cancel := context.WithTimeout(background, time.Millisecond)
			defer cancel()
			return p.Drain(ctx)
		},
	} {
		p := newPool(t, m, 2, nil)
		called := make(chan error)
		go func() {
			_, err := p.Call(background, ctest.Pause, 0, 0)
			called <- err
		}()
		require.True(t, eventually(func() bool { return p.Stats().Calls == 1 }))
		ctx, cancel := context.WithCancel(background)
		drained := make(chan error)
		go func() { drained <- p.Drain(ctx) }()
		require.True(t, eventually(func() bool {
			_, err := p.Call(background, ctest.Add, 0, 0)
			return err != nil
		}))
		err := end(p, cancel)
		assert.ErrorIs(t, <-called, shm.ErrPoolClosed, name)
		late := <-drained
		switch name {
		case "context":
			assert.EqualError(t, late, "shm: drain: context canceled")
			assert.ErrorIs(t, late, context.Canceled)
		case "close":
			assert.NoError(t, err)
			assert.ErrorIs(t, late, shm.ErrPoolClosed)
		case "another": // which of the two closes the pool is open
			assert.Error(t, err)
		}
		cancel()
	}
}

// Init runs once in each child, before its first call, and in replaced children too.
func TestPoolInit(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 2, &shm.PoolConfig{Init: ctest.Increment, RestartRate: 1e6})
	assert.Equal(t, 2, getInt(m))
	for range 4 {
		_, err := p.Call(background, ctest.Add, 8, 8)
		assert.NoError(t, err)
	}
	assert.Equal(t, 2, getInt(m))
	for i := range 2 {
		_, err := p.Call(background, ctest.Crash, 0, 1)
		assert.ErrorAs(t, err, new(*shm.ExitError))
		assert.True(t, eventually(func() bool { return p.Stats().Restarts == uint64(i+1) }))
		assert.Equal(t, 3+i, getInt(m))
	}
	require.NoError(t, p.Close())
}

func TestPoolSaysWhatInitDid(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for _, server := range []bool{false, true} {
		for _, c := range []struct {
			init shm.ChildFunc
			text string
		}{
			{ctest.InitFail, "Init returned 3, must be 0"},
			{ctest.InitCrash, "signal: segmentation fault"},
			{ctest.InitExit, "exit status 0"},
		} {
			_, err := shm.NewPool(m, 2, &shm.PoolConfig{Init: c.init, ForkServer: server})
			assert.ErrorContains(t, err, c.text, "%v %s", server, c.text)
		}
	}
}

// In a sandbox a child can open no file, but Init can.
func TestPoolInitRunsBeforeTheSandbox(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	cfg := &shm.PoolConfig{Fork: shm.ForkConfig{Sandbox: &shm.Sandbox{Optional: true}}}
	p := newPool(t, m, 1, cfg)
	_, err := p.Call(background, ctest.OpenFile, 0, 4)
	if err == nil {
		t.Skip("this kernel restricts no child")
	}
	var exit *shm.ExitError
	require.ErrorAs(t, err, &exit)
	cfg.Init = ctest.OpenFile
	p = newPool(t, m, 1, cfg)
	_, err = p.Call(background, ctest.Increment, 0, 4)
	assert.NoError(t, err)
}

// A child may end as soon as it is set up, and is reaped then. Its control page is
// unmapped by that, and the pool must not use it.
func TestReapedChildHasNoControlPage(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := must(m.Fork(ctest.Pause, nil))
	assert.True(t, p.HoldsControl())
	require.NoError(t, p.Kill())
	assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
	assert.False(t, p.HoldsControl())
}
