//go:build linux && cgo

package shared_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/internal/testenv"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// newSite returns memory for children, with nothing in it.
func newSite(t testing.TB, technique shm.Technique) (*shm.Mapping, *sharedc.MutexArea) {
	m := newMapping(t, int(unsafe.Sizeof(sharedc.MutexArea{})), technique)
	a, err := shm.At[sharedc.MutexArea](m, 0)
	require.NoError(t, err)
	return m, a
}

// acts has a child act, and returns the results.
func acts(t testing.TB, m *shm.Mapping, a *sharedc.MutexArea, all ...int32) []unix.Errno {
	a.Act, a.Result = [40]int32{}, [40]int32{}
	copy(a.Act[:], all)
	require.NoError(t, shm.Call(background, sharedc.MutexActs, m, nil))
	results := make([]unix.Errno, len(all))
	for i := range all {
		results[i] = unix.Errno(a.Result[i])
	}
	return results
}

// die has a child act, and kills it then.
func die(t testing.TB, m *shm.Mapping, a *sharedc.MutexArea, all ...int32) {
	p := holdByChild(t, m, a, all...)
	require.NoError(t, p.Kill())
	require.Error(t, p.Wait(background))
}

// inParallel calls f in n goroutines, and waits for them.
func inParallel(n int, f func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Add(1)
		go func() { defer wg.Done(); f() }()
	}
	wg.Wait()
}

func TestRWMutexExcludesWriters(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		m, a := newSite(t, technique)
		l, err := shared.NewRWMutex(m, 0)
		require.NoError(t, err)
		a.Rounds = 400
		var children []*shm.Process
		for range 2 {
			children = append(children, fork(t, m, sharedc.CountRW, nil))
		}
		inHeap := 0
		inParallel(2, func() {
			for range 200 {
				assert.NoError(t, l.Lock(background))
				assert.EqualValues(t, 1000, atomic.AddUint32(&a.Inside, 1000))
				a.Counter++
				inHeap++
				atomic.AddUint32(&a.Inside, ^uint32(999))
				assert.NoError(t, l.Unlock())
				assert.NoError(t, l.RLock(background))
				assert.Less(t, atomic.AddUint32(&a.Inside, 1), uint32(1000))
				_ = inHeap
				atomic.AddUint32(&a.Inside, ^uint32(0))
				assert.NoError(t, l.RUnlock())
			}
		})
		for _, p := range children {
			require.NoError(t, p.Wait(background))
		}
		assert.EqualValues(t, 800, a.Counter)
		assert.Equal(t, 400, inHeap)
	})
}

func TestRWMutexTellsThatAWriterDied(t *testing.T) {
	m, a := newSite(t, shm.DefaultTechnique())
	l, err := shared.NewRWMutex(m, 0)
	require.NoError(t, err)
	die(t, m, a, sharedc.WRLock)
	require.Equal(t, shared.ErrOwnerDied, l.RLock(background))
	require.Equal(t, shared.ErrLocked, l.TryLock())
	require.Equal(t, shared.ErrNotHeld, l.Consistent())
	require.NoError(t, l.RUnlock())
	assert.Equal(t, []unix.Errno{unix.EOWNERDEAD, 0, unix.EOWNERDEAD, 0, 0, 0, 0},
		acts(t, m, a, sharedc.RDLock, sharedc.RDUnlock, sharedc.WRLock, sharedc.RWConsistent, sharedc.WRUnlock,
			sharedc.RDLock, sharedc.RDUnlock))
	die(t, m, a, sharedc.WRLock)
	require.Equal(t, shared.ErrOwnerDied, l.Lock(background))
	require.NoError(t, l.Unlock())
	assert.Equal(t, shared.ErrNotRecoverable, l.Lock(background))
	assert.Equal(t, shared.ErrNotRecoverable, l.RLock(background))
	assert.Equal(t, shared.ErrNotHeld, l.Unlock())
	assert.Equal(t, []unix.Errno{unix.ENOTRECOVERABLE, unix.ENOTRECOVERABLE, unix.EPERM},
		acts(t, m, a, sharedc.RDLock, sharedc.WRLock, sharedc.WRUnlock))
}

func TestRWMutexOutlivesReadersAndWaiters(t *testing.T) {
	m, a := newSite(t, shm.DefaultTechnique())
	l, err := shared.NewRWMutex(m, 0)
	require.NoError(t, err)
	die(t, m, a, sharedc.RDLock, sharedc.RDLock)
	require.NoError(t, l.TryLock())
	require.NoError(t, l.Unlock())

	require.NoError(t, l.RLock(background))
	a.Act, a.Done = [40]int32{sharedc.WRLock}, 0
	p, err := m.Fork(sharedc.MutexActs, nil) // waits to write, and keeps readers out
	require.NoError(t, err)
	require.True(t, testenv.Eventually(func() bool {
		if err := l.TryRLock(); err != nil {
			return assert.Equal(t, shared.ErrLocked, err)
		}
		return assert.NoError(t, l.RUnlock()) && false
	}))
	require.NoError(t, p.Kill())
	require.Error(t, p.Wait(background))
	require.NoError(t, l.TryRLock())
	require.NoError(t, l.RUnlock())
	require.NoError(t, l.RUnlock())
	assert.Zero(t, shared.Held())
}

func TestRWMutexInC(t *testing.T) {
	m, a := newSite(t, shm.DefaultTechnique())
	l, err := shared.NewRWMutex(m, 0)
	require.NoError(t, err)
	assert.Equal(t, []unix.Errno{0, 0, unix.EDEADLK, 0, 0, unix.EPERM, 0, unix.EDEADLK, unix.EDEADLK, 0, unix.EPERM},
		acts(t, m, a, sharedc.RDLock, sharedc.RDLock, sharedc.WRLock, sharedc.RDUnlock, sharedc.RDUnlock,
			sharedc.RDUnlock, sharedc.WRLock, sharedc.RDLock, sharedc.WRLock|sharedc.Timed, sharedc.WRUnlock,
			sharedc.WRUnlock))
	require.NoError(t, l.RLock(background))
	assert.Equal(t, []unix.Errno{unix.ETIMEDOUT, 0, 0},
		acts(t, m, a, sharedc.WRLock|sharedc.Timed, sharedc.RDLock, sharedc.RDUnlock))
	require.NoError(t, l.RUnlock())
	require.NoError(t, l.Lock(background))
	assert.Equal(t, []unix.Errno{unix.ETIMEDOUT, unix.ETIMEDOUT},
		acts(t, m, a, sharedc.WRLock|sharedc.Timed, sharedc.RDLock|sharedc.Timed))
	ctx, cancel := context.WithCancel(background)
	cancel()
	assert.Equal(t, context.Canceled, l.Lock(ctx))
	assert.Equal(t, context.Canceled, l.RLock(ctx))
	require.NoError(t, l.Unlock())
	require.NoError(t, l.TryLock())
	require.NoError(t, l.Unlock())
}

func TestSemaphoreHasItsUnitsAndNoMore(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		m, a := newSite(t, technique)
		s, err := shared.NewSemaphore(m, 0, 2)
		require.NoError(t, err)
		a.Rounds = 300
		var children []*shm.Process
		for range 2 {
			children = append(children, fork(t, m, sharedc.CountUnits, nil))
		}
		inParallel(2, func() {
			for range 300 {
				assert.NoError(t, s.Acquire(background))
				assert.LessOrEqual(t, atomic.AddUint32(&a.Inside, 1), uint32(2))
				atomic.AddUint32(&a.Inside, ^uint32(0))
				assert.NoError(t, s.Release())
			}
		})
		for _, p := range children {
			require.NoError(t, p.Wait(background))
		}
		isWhole(t, s)
	})
}

// isWhole checks that all of two units are there.
func isWhole(t *testing.T, s *shared.Semaphore) {
	for range 2 {
		require.NoError(t, s.TryAcquire())
	}
	require.Equal(t, shared.ErrLocked, s.TryAcquire())
	for range 2 {
		require.NoError(t, s.Release())
	}
	require.Equal(t, shared.ErrNotHeld, s.Release())
}

func TestASemaphoreGetsADeadChildsUnitsBack(t *testing.T) {
	m, a := newSite(t, shm.DefaultTechnique())
	s, err := shared.NewSemaphore(m, 0, 2)
	require.NoError(t, err)
	p := holdByChild(t, m, a, sharedc.SemaphoreAcquire, sharedc.SemaphoreAcquire)
	ctx, cancel := context.WithCancel(background)
	waiting := make(chan error)
	go func() { waiting <- s.Acquire(ctx) }()
	cancel()
	require.Equal(t, context.Canceled, <-waiting)
	go func() { waiting <- s.Acquire(background) }()
	require.NoError(t, p.Kill())
	require.NoError(t, <-waiting)
	require.NoError(t, s.Release())
	isWhole(t, s)
	assert.Equal(t, []unix.Errno{0, 0, unix.ETIMEDOUT, 0, 0, unix.EPERM}, acts(t, m, a,
		sharedc.SemaphoreAcquire, sharedc.SemaphoreAcquire, sharedc.SemaphoreAcquire|sharedc.Timed,
		sharedc.SemaphoreRelease, sharedc.SemaphoreRelease, sharedc.SemaphoreRelease))
}

// Whoever counts the units while the first structure of a dead process is mended counts none of the
// process's.
func TestNothingOfADeadProcessIsLeftWhenMendingBegins(t *testing.T) {
	m, _ := newSite(t, shm.DefaultTechnique())
	left, err := shared.EndOwner(m)
	require.NoError(t, err)
	assert.Equal(t, make([]int, 32), left)
}

func TestEventWakesAll(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		m, a := newSite(t, technique)
		e, err := shared.NewEvent(m, 0)
		require.NoError(t, err)
		assert.Equal(t, []unix.Errno{unix.ETIMEDOUT}, acts(t, m, a, sharedc.EventWait|sharedc.Timed))
		a.Act = [40]int32{sharedc.EventWait}
		p := fork(t, m, sharedc.MutexActs, nil)
		waiting := make(chan error)
		go func() { waiting <- e.Wait(background) }()
		e.Set()
		require.NoError(t, <-waiting)
		require.NoError(t, p.Wait(background))
		e.Reset()
		assert.False(t, e.IsSet())
		go func() { waiting <- e.Wait(background) }()
		assert.Equal(t, []unix.Errno{0, 0}, acts(t, m, a, sharedc.EventSet, sharedc.EventWait))
		require.NoError(t, <-waiting)
		assert.True(t, e.IsSet())
	})
}

func TestBarrierLetsAllGoAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		m, a := newSite(t, technique)
		b, err := shared.NewBarrier(m, 0, 4)
		require.NoError(t, err)
		const rounds = 40
		a.Act = [40]int32{}
		for i := range rounds {
			a.Act[i] = sharedc.BarrierWait
		}
		children := []*shm.Process{fork(t, m, sharedc.MutexActs, nil), fork(t, m, sharedc.MutexActs, nil)}
		var arrived atomic.Int32
		inParallel(2, func() {
			for i := range rounds {
				arrived.Add(1)
				assert.NoError(t, b.Wait(background))
				assert.GreaterOrEqual(t, arrived.Load(), int32(2*(i+1)))
			}
		})
		for _, p := range children {
			require.NoError(t, p.Wait(background))
		}
		assert.Equal(t, [40]int32{}, a.Result)
	})
}

func TestABarrierDoesNotCountTheDead(t *testing.T) {
	m, a := newSite(t, shm.DefaultTechnique())
	b, err := shared.NewBarrier(m, 0, 2)
	require.NoError(t, err)
	assert.Equal(t, []unix.Errno{unix.ETIMEDOUT}, acts(t, m, a, sharedc.BarrierWait|sharedc.Timed))
	a.Act = [40]int32{sharedc.BarrierWait}
	p, err := m.Fork(sharedc.MutexActs, nil)
	require.NoError(t, err)
	require.True(t, testenv.Eventually(func() bool { return shared.Arrived(b) == 1 }))
	require.NoError(t, p.Kill())
	require.Error(t, p.Wait(background))
	ctx, cancel := context.WithCancel(background)
	waiting := make(chan error)
	go func() { waiting <- b.Wait(ctx) }()
	require.True(t, testenv.Eventually(func() bool { return shared.Arrived(b) == 1 }))
	cancel()
	require.Equal(t, context.Canceled, <-waiting)
	require.Zero(t, shared.Arrived(b))
	go func() { waiting <- b.Wait(background) }()
	require.NoError(t, b.Wait(background))
	require.NoError(t, <-waiting)
}

func TestNewRefusesACountOfNone(t *testing.T) {
	m, _ := newSite(t, shm.DefaultTechnique())
	_, err := shared.NewSemaphore(m, 0, 0)
	assert.ErrorIs(t, err, unix.EINVAL)
	_, err = shared.NewBarrier(m, 0, -1)
	assert.ErrorIs(t, err, unix.EINVAL)
	_, err = shared.NewEvent(m, 0)
	require.NoError(t, err)
	_, err = shared.NewRWMutex(m, 0)
	assert.ErrorIs(t, err, shared.ErrKind)
}
