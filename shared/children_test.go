//go:build linux && cgo

package shared_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/internal/testenv"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forkers are the ways to a child.
var forkers = []struct {
	name string
	fork func(t *testing.T, m *shm.Mapping, child shm.ChildFunc) (*shm.Process, error)
}{
	{"Fork", func(_ *testing.T, m *shm.Mapping, child shm.ChildFunc) (*shm.Process, error) {
		return m.Fork(child, nil)
	}},
	{"KillWithParent", func(_ *testing.T, m *shm.Mapping, child shm.ChildFunc) (*shm.Process, error) {
		return m.Fork(child, &shm.ForkConfig{KillWithParent: true, CloseFDs: true, Lean: true, ProcessGroup: true})
	}},
	{"Sandbox", func(_ *testing.T, m *shm.Mapping, child shm.ChildFunc) (*shm.Process, error) {
		return m.Fork(child, &shm.ForkConfig{CloseFDs: true, Sandbox: &shm.Sandbox{Optional: true}})
	}},
	{"ForkServer", func(t *testing.T, m *shm.Mapping, child shm.ChildFunc) (*shm.Process, error) {
		server, err := m.ForkServer(nil)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, server.Close()) })
		return server.Fork(child)
	}},
}

// Children of each kind lock, wake a goroutine, and are told of when they die. Nobody calls Wait.
func TestEachKindOfChildLocks(t *testing.T) {
	for _, f := range forkers {
		t.Run(f.name, func(t *testing.T) {
			m, a, l := newArea(t, shm.DefaultTechnique())
			other, err := shared.NewMutex(m, sharedc.OthersOffset)
			require.NoError(t, err)
			require.NoError(t, l.Lock(background))
			a.Act = [40]int32{sharedc.MutexLock, sharedc.MutexUnlock, sharedc.MutexNext, sharedc.MutexLock, sharedc.MutexPause}
			p, err := f.fork(t, m, sharedc.MutexActs)
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			require.NoError(t, err)
			shared.AwaitThread(l)
			waiting := make(chan error)
			go func() { waiting <- l.Lock(background) }()
			require.NoError(t, l.Unlock())
			require.NoError(t, <-waiting)
			require.NoError(t, l.Unlock())
			require.True(t, testenv.Eventually(func() bool { return atomic.LoadUint32(&a.Done) == 4 }))
			require.NoError(t, p.Kill())
			require.Equal(t, shared.ErrOwnerDied, other.Lock(background))
			require.NoError(t, other.Consistent())
			require.NoError(t, other.Unlock())
			var exit *shm.ExitError
			require.ErrorAs(t, p.Wait(background), &exit)
			assert.True(t, exit.Status.Signaled(), "%v", exit)
		})
	}
}

// A child holds a lock, and its set-up fails. Meanwhile others move the mapping's end, for which they
// lock the mapping, as the mending of the lock does.
func TestLocksOfChildrenWhoseSetUpFails(t *testing.T) {
	for _, server := range []bool{false, true} {
		m, err := shm.Map(shm.Shared, 8192, &shm.Config{Technique: shm.Memfd, Reserve: 1 << 20})
		require.NoError(t, err)
		a, err := shm.At[sharedc.MutexArea](m, 0)
		require.NoError(t, err)
		l, err := shared.NewMutex(m, 0)
		require.NoError(t, err)
		var stop atomic.Bool
		stopped := make(chan struct{})
		resize := func(length int) {
			if err := m.Resize(length, 0); err != nil {
				assert.ErrorIs(t, err, shm.ErrLive)
			}
		}
		go func() {
			defer close(stopped)
			for i := 0; !stop.Load(); i++ {
				resize(8192 << (i % 2))
			}
		}()
		for range 5 {
			a.Act = [40]int32{sharedc.MutexLock}
			a.Done, a.Inside = 0, 0
			made := make(chan error)
			go func() {
				_, err := shm.NewPool(m, 1, &shm.PoolConfig{Init: sharedc.MutexFail, ForkServer: server})
				made <- err
			}()
			require.True(t, testenv.Eventually(func() bool { return atomic.LoadUint32(&a.Done) == 1 }))
			resize(1 << 19) // it does not wait for Init
			resize(8192)
			atomic.StoreUint32(&a.Inside, 1)
			assert.ErrorContains(t, <-made, "Init returned 3, must be 0")
			assert.Equal(t, shared.ErrOwnerDied, l.Lock(background))
			assert.NoError(t, l.Consistent())
			assert.NoError(t, l.Unlock())
		}
		stop.Store(true)
		<-stopped
		require.NoError(t, m.Close())
	}
}

// Each kind of child wakes goroutines at once, and not after they look again for themselves.
func TestEachKindOfChildRings(t *testing.T) {
	for _, f := range forkers {
		t.Run(f.name, func(t *testing.T) {
			m, a := newSite(t, shm.DefaultTechnique())
			e, err := shared.NewEvent(m, 0)
			require.NoError(t, err)
			a.Act = [40]int32{sharedc.EventSet}
			shared.SleepByBell(e)
			shared.Rings()
			p, err := f.fork(t, m, sharedc.MutexActs)
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			require.NoError(t, err)
			require.True(t, testenv.Eventually(e.IsSet))
			require.True(t, testenv.Eventually(func() bool { return shared.Rings() > 0 }), "the bell is silent")
			require.NoError(t, p.Wait(background))
		})
	}
}
