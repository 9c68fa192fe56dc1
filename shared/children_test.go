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
