//go:build linux && cgo

package shared_test

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/internal/testenv"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// uses are all calls of each structure at offset 0. They end, whatever the structure's bytes are.
var uses = []struct {
	name string
	make func(m *shm.Mapping) (use func(ctx context.Context), err error)
}{
	{"mutex", func(m *shm.Mapping) (func(context.Context), error) {
		l, err := shared.NewMutex(m, 0)
		return func(ctx context.Context) {
			_ = l.Lock(ctx)
			_ = l.TryLock()
			_ = l.Consistent()
			_, _ = l.Unlock(), l.Unlock()
		}, err
	}},
	{"rwmutex", func(m *shm.Mapping) (func(context.Context), error) {
		l, err := shared.NewRWMutex(m, 0)
		return func(ctx context.Context) {
			_, _ = l.RLock(ctx), l.TryRLock()
			_, _ = l.RUnlock(), l.RUnlock()
			_, _ = l.Lock(ctx), l.TryLock()
			_ = l.Consistent()
			_, _ = l.Unlock(), l.RUnlock()
		}, err
	}},
	{"semaphore", func(m *shm.Mapping) (func(context.Context), error) {
		s, err := shared.NewSemaphore(m, 0, 1)
		return func(ctx context.Context) {
			_, _ = s.Acquire(ctx), s.TryAcquire()
			_, _, _ = s.Release(), s.Release(), s.Release()
		}, err
	}},
	{"event", func(m *shm.Mapping) (func(context.Context), error) {
		e, err := shared.NewEvent(m, 0)
		return func(ctx context.Context) {
			e.Reset()
			_ = e.Wait(ctx)
			e.Set()
			_ = e.IsSet()
		}, err
	}},
	{"barrier", func(m *shm.Mapping) (func(context.Context), error) {
		b, err := shared.NewBarrier(m, 0, 2)
		return func(ctx context.Context) { _ = b.Wait(ctx) }, err
	}},
}

// useBriefly makes all calls wait for a moment at most.
func useBriefly(t *testing.T) func(use func(context.Context)) {
	former := shared.Briefly(time.Millisecond)
	t.Cleanup(func() { shared.Briefly(former) })
	return func(use func(context.Context)) {
		ctx, cancel := context.WithTimeout(background, time.Millisecond)
		defer cancel()
		use(ctx)
	}
}

// Each byte of a structure in turn is garbage, and then all at once.
func TestGarbageInAStructure(t *testing.T) {
	briefly := useBriefly(t)
	for _, u := range uses {
		t.Run(u.name, func(t *testing.T) {
			m := newMapping(t, 4096, shm.DefaultTechnique())
			use, err := u.make(m)
			require.NoError(t, err)
			bytes := m.Bytes()[:64]
			whole := append([]byte(nil), bytes...)
			for i := range bytes {
				for _, b := range []byte{0xff, byte(rand.Uint32())} {
					bytes[i] = b
					briefly(use)
					copy(bytes, whole)
				}
			}
			for range 20 {
				for i := range bytes {
					bytes[i] = byte(rand.Uint32())
				}
				briefly(use)
			}
			_, err = u.make(m)
			assert.ErrorIs(t, err, shared.ErrKind)
			clear(bytes)
			use, err = u.make(m)
			require.NoError(t, err)
			briefly(use)
			assert.Zero(t, shared.Held())
		})
	}
}

// A process writes garbage all the time that another uses the structure.
func TestGarbageBesideUse(t *testing.T) {
	briefly := useBriefly(t)
	for _, u := range uses {
		t.Run(u.name, func(t *testing.T) {
			m := newMapping(t, 4096, shm.DefaultTechnique())
			use, err := u.make(m)
			require.NoError(t, err)
			words := unsafe.Slice((*uint32)(m.Addr()), 16)
			var stop atomic.Bool
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				for !stop.Load() {
					atomic.StoreUint32(&words[rand.IntN(16)], rand.Uint32())
					atomic.StoreUint32(&words[6], uint32(rand.IntN(1<<21))) // the lock's word
				}
			}()
			for range 30 {
				briefly(use)
			}
			stop.Store(true)
			<-stopped
		})
	}
}

// A child writes garbage into all of the slots, its own among them, and dies.
func TestGarbageInTheTableOfOwners(t *testing.T) {
	briefly := useBriefly(t)
	m, a, l := newArea(t, shm.DefaultTechnique())
	require.NoError(t, l.Lock(background))
	require.NoError(t, l.Unlock())
	for range 20 {
		p := holdByChild(t, m, a, sharedc.MutexLock)
		for _, slot := range shared.OwnSlots() {
			for i := 64; i < len(slot); i++ { // what this process holds
				slot[i] = byte(rand.Uint32())
			}
		}
		shared.Scribble(Owner(l))
		require.NoError(t, p.Kill())
		require.Error(t, p.Wait(background))
		for _, slot := range shared.OwnSlots() {
			clear(slot[64:])
		}
		briefly(func(ctx context.Context) { _ = l.Lock(ctx) })
		clear(m.Bytes()[:64])
		var err error
		l, err = shared.NewMutex(m, 0)
		require.NoError(t, err)
		require.NoError(t, l.Lock(background))
		require.NoError(t, l.Unlock())
	}
}

// Owner returns the owner of a lock.
func Owner(l *shared.Mutex) uint32 { return shared.Word(l) & 0xffff }

// A child fills what it has of the program, has it block, and rings the bell all the time. Nobody waits
// for it.
func TestNoChildHoldsUpTheBell(t *testing.T) {
	m := newMapping(t, 4096, shm.DefaultTechnique())
	stop, done := (*uint32)(m.Addr()), (*uint32)(unsafe.Add(m.Addr(), 4))
	for _, cfg := range []*shm.ForkConfig{{CloseFDs: true}, {Sandbox: &shm.Sandbox{Optional: true, OnDeny: shm.Errno}}} {
		atomic.StoreUint32(stop, 0)
		atomic.StoreUint32(done, 0)
		child := fork(t, m, sharedc.Misuse, cfg)
		require.True(t, testenv.Eventually(func() bool { return atomic.LoadUint32(done) == 1 }))
		l, err := shared.NewMutex(newMapping(t, 4096, shm.DefaultTechnique()), 0)
		require.NoError(t, err)
		for range 20 {
			require.NoError(t, l.Lock(background))
			locked := make(chan error)
			go func() { locked <- l.Lock(background) }()
			shared.AwaitBell(l)
			require.NoError(t, l.Unlock())
			require.NoError(t, <-locked)
			require.NoError(t, l.Unlock())
		}
		atomic.StoreUint32(stop, 1)
		require.NoError(t, child.Wait(background))
	}
}
