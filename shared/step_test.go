//go:build linux && cgo

package shared_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var stride = flag.Int("stride", 23, "kill children at each instruction that is a multiple of this, from a random one on")

// tracee is a child that this thread runs by single instructions.
type tracee struct {
	t *testing.T
	p *shm.Process
}

// trace forks a child that acts, and returns when the child has stopped for the first time. The
// caller is locked to its thread.
func trace(t *testing.T, m *shm.Mapping, a *sharedc.MutexArea, acts ...int32) *tracee {
	a.Act = [40]int32{}
	copy(a.Act[:], append([]int32{sharedc.MutexTrace}, acts...))
	return traceChild(t, m, sharedc.MutexActs)
}

// traceChild forks a child that is traced and stops.
func traceChild(t *testing.T, m *shm.Mapping, child shm.ChildFunc) *tracee {
	p, err := m.Fork(child, &shm.ForkConfig{NoCrashReport: true})
	require.NoError(t, err)
	c := &tracee{t, p}
	require.Equal(t, unix.SIGSTOP, c.awaitStop())
	require.NoError(t, unix.PtraceSetOptions(p.Pid(), unix.PTRACE_O_EXITKILL))
	return c
}

// awaitStop waits until the child stops, and returns the signal. The signal is -1 if the child has
// ended.
func (c *tracee) awaitStop() unix.Signal {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(c.p.Pid(), &status, unix.WUNTRACED|unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		require.NoError(c.t, err)
		require.True(c.t, status.Stopped(), "%#x", status)
		return status.StopSignal()
	}
}

// step runs at most n instructions, up to the child's next stop, and returns how many it ran.
func (c *tracee) step(n int) (ran int, stopped bool) {
	for ran = range n {
		require.NoError(c.t, unix.PtraceSingleStep(c.p.Pid()))
		if c.awaitStop() == unix.SIGSTOP {
			return ran + 1, true
		}
	}
	return max(n, 0), false
}

// kill kills the child, and waits until it is reaped.
func (c *tracee) kill() {
	require.NoError(c.t, c.p.Kill())
	var exit *shm.ExitError
	require.ErrorAs(c.t, c.p.Wait(background), &exit)
	require.True(c.t, exit.Status.Signaled())
}

// atEach calls try with each number of instructions that a child runs before it is killed, from 0 up
// to the whole way between its two stops, or with some of these numbers.
func atEach(t *testing.T, try func(n int) (stopped bool)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for n := rand.IntN(*stride); ; n += *stride {
		if try(n) {
			t.Logf("%d instructions", n)
			return
		}
	}
}

// seize locks for the test, and unlocks. It returns the error that told of a death, or nil.
func seize(t *testing.T, l *shared.Mutex) error {
	ctx, cancel := context.WithTimeout(background, 5*time.Minute) // for a hang
	defer cancel()
	err := l.Lock(ctx)
	if err != nil {
		require.Equal(t, shared.ErrOwnerDied, err)
		require.NoError(t, l.Consistent())
	}
	require.NoError(t, l.Unlock())
	return err
}

// A child is killed between lock and unlock if and only if the next owner is told so.
func TestAChildIsKilledAtEachInstructionOfLockAndUnlock(t *testing.T) {
	m, a, l := newArea(t, shm.DefaultTechnique())
	told, after := 0, 0
	atEach(t, func(n int) bool {
		c := trace(t, m, a, sharedc.MutexStop, sharedc.MutexLock, sharedc.MutexUnlock, sharedc.MutexStop)
		_, stopped := c.step(n)
		c.kill()
		if seize(t, l) != nil {
			told++
			assert.Zero(t, after, "told after %d instructions of a death without the lock", n)
		} else if told > 0 {
			after++
		}
		require.Zero(t, shared.Word(l), "%d instructions", n)
		return stopped
	})
	assert.Positive(t, told)
	assert.Positive(t, after)
	assert.Zero(t, shared.Held())
}

// While a child is killed in unlock, a goroutine, a thread of C, and one more thread wait.
func TestAChildIsKilledAtEachInstructionOfUnlockBesideWaiters(t *testing.T) {
	m, a, l := newArea(t, shm.DefaultTechnique())
	atEach(t, func(n int) bool {
		c := trace(t, m, a, sharedc.MutexLock, sharedc.MutexStop, sharedc.MutexUnlock, sharedc.MutexStop)
		var waiters []*shm.Process
		for range 2 {
			p, err := m.Fork(sharedc.LockOnce, &shm.ForkConfig{KillWithParent: true})
			require.NoError(t, err)
			waiters = append(waiters, p)
		}
		done := make(chan struct{})
		go func() { defer close(done); seize(t, l) }()
		shared.AwaitWaiters(l)
		_, stopped := c.step(n)
		c.kill()
		<-done
		for _, p := range waiters {
			require.NoError(t, p.Wait(background))
		}
		require.NoError(t, l.TryLock())
		require.NoError(t, l.Unlock())
		return stopped
	})
	assert.Zero(t, shared.Held())
}

// A child is killed while it waits, gets the lock, or gives up.
func TestAChildIsKilledAtEachInstructionOfWaiting(t *testing.T) {
	for _, held := range []string{"for ever", "until it waits"} {
		t.Run(held, func(t *testing.T) {
			m, a, l := newArea(t, shm.DefaultTechnique())
			atEach(t, func(n int) bool {
				require.NoError(t, l.Lock(background))
				c := trace(t, m, a, sharedc.MutexStop, sharedc.MutexTimedLock, sharedc.MutexStop)
				ran, stopped := c.step(min(n, 300))
				if held == "until it waits" && n >= 300 {
					require.NoError(t, l.Unlock())
				}
				if !stopped {
					_, stopped = c.step(n - ran)
				}
				c.kill()
				if held == "for ever" || n < 300 {
					require.NoError(t, l.Unlock())
				}
				seize(t, l)
				require.Zero(t, shared.Word(l)&^shared.WaitFlags)
				return stopped
			})
			assert.Zero(t, shared.Held())
		})
	}
}

// Each structure is whole after a child was killed at each instruction of its operations.
func TestAChildIsKilledAtEachInstructionOfTheOthers(t *testing.T) {
	stop := int32(sharedc.MutexStop)
	for _, c := range []struct {
		name  string
		acts  []int32
		check func(t *testing.T, m *shm.Mapping) (check func())
	}{
		{"read", []int32{stop, sharedc.RDLock, sharedc.RDUnlock, stop}, rwIsFree},
		{"write", []int32{stop, sharedc.WRLock, sharedc.WRUnlock, stop}, rwIsFree},
		{"wait to write", []int32{sharedc.RDLock, stop, sharedc.WRLock | sharedc.Timed, stop}, rwIsFree},
		{"wait to read", []int32{sharedc.WRLock, stop, sharedc.RDLock | sharedc.Timed, stop}, rwIsFree},
		{"acquire", []int32{stop, sharedc.SemaphoreAcquire, sharedc.SemaphoreRelease, stop}, unitsAreThere},
		{"wait to acquire", []int32{sharedc.SemaphoreAcquire, sharedc.SemaphoreAcquire, stop,
			sharedc.SemaphoreAcquire | sharedc.Timed, stop}, unitsAreThere},
		{"arrive", []int32{stop, sharedc.BarrierWait | sharedc.Timed, stop}, nobodyIsThere},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, a := newSite(t, shm.DefaultTechnique())
			check := c.check(t, m)
			require.Zero(t, shared.Held())
			owners := shared.Owners()
			atEach(t, func(n int) bool {
				child := trace(t, m, a, c.acts...)
				_, stopped := child.step(n)
				child.kill()
				check()
				require.Equal(t, owners, shared.Owners())
				return stopped
			})
			assert.Zero(t, shared.Held())
		})
	}
}

func rwIsFree(t *testing.T, m *shm.Mapping) func() {
	l, err := shared.NewRWMutex(m, 0)
	require.NoError(t, err)
	return func() {
		if err := l.TryRLock(); err != nil {
			require.Equal(t, shared.ErrOwnerDied, err)
		}
		require.NoError(t, l.RUnlock())
		if err := l.TryLock(); err != nil {
			require.Equal(t, shared.ErrOwnerDied, err)
			require.NoError(t, l.Consistent())
		}
		require.Equal(t, shared.ErrLocked, l.TryRLock())
		require.NoError(t, l.Unlock())
	}
}

func unitsAreThere(t *testing.T, m *shm.Mapping) func() {
	s, err := shared.NewSemaphore(m, 0, 2)
	require.NoError(t, err)
	return func() { isWhole(t, s) }
}

func nobodyIsThere(t *testing.T, m *shm.Mapping) func() {
	b, err := shared.NewBarrier(m, 0, 2)
	require.NoError(t, err)
	return func() { require.Zero(t, shared.Arrived(b)) }
}
