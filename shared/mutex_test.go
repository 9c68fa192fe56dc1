//go:build linux && cgo

package shared_test

import (
	"context"
	"errors"
	"sync"
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
	"golang.org/x/sys/unix"
)

var background = context.Background()

// newArea returns memory for children that lock, and its first lock.
func newArea(t testing.TB, technique shm.Technique) (*shm.Mapping, *sharedc.MutexArea, *shared.Mutex) {
	m := newMapping(t, int(unsafe.Sizeof(sharedc.MutexArea{})), technique)
	a, err := shm.At[sharedc.MutexArea](m, 0)
	require.NoError(t, err)
	l, err := shared.NewMutex(m, 0)
	require.NoError(t, err)
	return m, a, l
}

// holdByChild forks a child that locks, and pauses.
func holdByChild(t testing.TB, m *shm.Mapping, a *sharedc.MutexArea, acts ...int32) *shm.Process {
	atomic.StoreUint32(&a.Done, 0)
	copy(a.Act[:], append(acts, sharedc.MutexPause))
	p, err := m.Fork(sharedc.MutexActs, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Kill(); _ = p.Wait(background) })
	require.True(t, testenv.Eventually(func() bool { return atomic.LoadUint32(&a.Done) == uint32(len(acts)) }))
	return p
}

func TestMutexExcludesProcessesAndGoroutines(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		m, a, l := newArea(t, technique)
		const rounds, children, goroutines = 2000, 3, 3
		a.Rounds = rounds
		var processes []*shm.Process
		for range children {
			processes = append(processes, fork(t, m, sharedc.CountLocked, nil))
		}
		var wg sync.WaitGroup
		inHeap := 0 // -race sees whether the lock orders this
		for range goroutines {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range rounds {
					if !assert.NoError(t, l.Lock(background)) {
						return
					}
					assert.EqualValues(t, 1, atomic.AddUint32(&a.Inside, 1))
					a.Counter++
					inHeap++
					atomic.AddUint32(&a.Inside, ^uint32(0))
					assert.NoError(t, l.Unlock())
				}
			}()
		}
		wg.Wait()
		for _, p := range processes {
			require.NoError(t, p.Wait(background))
		}
		assert.EqualValues(t, rounds*(children+goroutines), a.Counter)
		assert.Equal(t, rounds*goroutines, inHeap)
	})
}

func TestMutexTellsThatItsOwnerDied(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		m, a, l := newArea(t, technique)
		p := holdByChild(t, m, a, sharedc.MutexLock)
		assert.Equal(t, shared.ErrLocked, l.TryLock())
		ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
		defer cancel()
		assert.Equal(t, context.DeadlineExceeded, l.Lock(ctx))

		require.NoError(t, p.Kill()) // and nobody waits for the child
		require.Equal(t, shared.ErrOwnerDied, l.Lock(background))
		assert.Equal(t, shared.ErrLocked, l.TryLock())
		require.NoError(t, l.Consistent())
		require.NoError(t, l.Unlock())
		require.NoError(t, l.Lock(background))
		require.NoError(t, l.Unlock())
	})
}

func TestMutexIsNotRecoverableWithoutConsistent(t *testing.T) {
	m, a, l := newArea(t, shm.DefaultTechnique())
	p := holdByChild(t, m, a, sharedc.MutexLock)
	require.NoError(t, p.Kill())
	require.Equal(t, shared.ErrOwnerDied, l.Lock(background))
	waiting := make(chan error)
	for range 2 {
		go func() { waiting <- l.Lock(background) }()
	}
	require.NoError(t, l.Unlock())
	for range 2 {
		assert.Equal(t, shared.ErrNotRecoverable, <-waiting)
	}
	assert.Equal(t, shared.ErrNotRecoverable, l.TryLock())
	assert.Equal(t, shared.ErrNotHeld, l.Unlock())
	assert.Equal(t, shared.ErrNotHeld, l.Consistent())
	a.Act = [40]int32{sharedc.MutexLock, sharedc.MutexTryLock, sharedc.MutexUnlock}
	require.NoError(t, shm.Call(background, sharedc.MutexActs, m, nil))
	assert.Equal(t, []int32{int32(unix.ENOTRECOVERABLE), int32(unix.ENOTRECOVERABLE), int32(unix.EPERM)}, a.Result[:3])
}

// C gets what Go gets.
func TestMutexInC(t *testing.T) {
	errno := func(errs ...unix.Errno) (all []int32) {
		for _, e := range errs {
			all = append(all, int32(e))
		}
		return all
	}
	lock, try, unlock := int32(sharedc.MutexLock), int32(sharedc.MutexTryLock), int32(sharedc.MutexUnlock)
	timed, consistent, next := int32(sharedc.MutexTimedLock), int32(sharedc.MutexConsistent), int32(sharedc.MutexNext)
	for _, c := range []struct {
		name        string
		acts        []int32
		want        []int32
		held, ended bool // before the child acts
	}{
		{"free", []int32{lock, unlock, try, unlock, timed, unlock}, errno(0, 0, 0, 0, 0, 0), false, false},
		{"with itself", []int32{lock, lock, timed, try, unlock}, errno(0, unix.EDEADLK, unix.EDEADLK, unix.EBUSY, 0), false, false},
		{"not held", []int32{unlock, consistent}, errno(unix.EPERM, unix.EPERM), false, false},
		{"held by another", []int32{try, timed, unlock}, errno(unix.EBUSY, unix.ETIMEDOUT, unix.EPERM), true, false},
		{"the owner died", []int32{lock, consistent, unlock, lock, unlock}, errno(unix.EOWNERDEAD, 0, 0, 0, 0), false, true},
		{"the owner died, by trylock", []int32{try, unlock, timed}, errno(unix.EOWNERDEAD, 0, unix.ENOTRECOVERABLE), false, true},
		{"two", []int32{lock, next, lock, unlock}, errno(0, 0, 0, 0), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, a, l := newArea(t, shm.DefaultTechnique())
			for i := range a.Others {
				_, err := shared.NewMutex(m, sharedc.OthersOffset+64*i)
				require.NoError(t, err)
			}
			if c.ended {
				p := holdByChild(t, m, a, lock)
				require.NoError(t, p.Kill())
				require.Error(t, p.Wait(background))
			}
			if c.held {
				require.NoError(t, l.Lock(background))
				defer func() { assert.NoError(t, l.Unlock()) }()
			}
			a.Act = [40]int32{}
			copy(a.Act[:], c.acts)
			require.NoError(t, shm.Call(background, sharedc.MutexActs, m, nil))
			assert.Equal(t, c.want, a.Result[:len(c.want)])
		})
	}
}

// A goroutine's locks do not count against those of others.
func TestAGoProcessHoldsManyLocks(t *testing.T) {
	const n = 1000
	m := newMapping(t, 64*n, shm.DefaultTechnique())
	var locks []*shared.Mutex
	for i := range n {
		l, err := shared.NewMutex(m, 64*i)
		require.NoError(t, err)
		require.NoError(t, l.Lock(background))
		locks = append(locks, l)
	}
	for _, l := range locks {
		require.Equal(t, shared.ErrLocked, l.TryLock())
		require.NoError(t, l.Unlock())
	}
}

// A C child holds 16 locks, and no more.
func TestAProcessHoldsSixteenLocks(t *testing.T) {
	m, a, _ := newArea(t, shm.DefaultTechnique())
	acts := a.Act[:0]
	for i := range a.Others[:17] {
		_, err := shared.NewMutex(m, sharedc.OthersOffset+64*i)
		require.NoError(t, err)
		acts = append(acts, sharedc.MutexNext, sharedc.MutexLock)
	}
	require.NoError(t, shm.Call(background, sharedc.MutexActs, m, nil))
	for i := range 16 {
		assert.Zero(t, a.Result[2*i+1])
	}
	assert.EqualValues(t, unix.ENOLCK, a.Result[2*16+1])
	for i := range a.Others[:17] { // and all of them are told of its end, which is not a crash
		l, err := shared.NewMutex(m, sharedc.OthersOffset+64*i)
		require.NoError(t, err)
		if i < 16 {
			assert.Equal(t, shared.ErrOwnerDied, l.TryLock())
			require.NoError(t, l.Consistent())
		} else {
			require.NoError(t, l.TryLock())
		}
		require.NoError(t, l.Unlock())
	}
}

func TestMutexOfAPool(t *testing.T) {
	m, a, l := newArea(t, shm.DefaultTechnique())
	pool, err := shm.NewPool(m, 2, nil)
	require.NoError(t, err)
	defer pool.Close()
	a.Rounds = 100
	for range 10 {
		result, err := pool.Call(background, sharedc.CountLocked, 0, m.Len())
		require.NoError(t, err)
		require.Zero(t, result)
	}
	a.Act = [40]int32{sharedc.MutexLock, sharedc.MutexPause}
	ctx, cancel := context.WithCancel(background)
	go func() {
		testenv.Eventually(func() bool { return atomic.LoadUint32(&a.Done) == 1 })
		cancel()
	}()
	_, err = pool.Call(ctx, sharedc.MutexActs, 0, m.Len())
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, shared.ErrOwnerDied, l.Lock(background))
	require.NoError(t, l.Consistent())
	require.NoError(t, l.Unlock())
}

func TestNewMutexRefuses(t *testing.T) {
	m := newMapping(t, 4096, shm.DefaultTechnique())
	private, err := shm.Map(shm.Private, 4096, nil)
	require.NoError(t, err)
	defer private.Close()
	m.Bytes()[128] = 1
	for _, c := range []struct {
		m   *shm.Mapping
		off int
		err error
	}{
		{m, 1, shm.ErrAlign}, {m, 32, shm.ErrAlign}, {m, -64, shm.ErrAlign},
		{m, 4096, shm.ErrRange}, {m, 128, shared.ErrKind}, {private, 0, unix.EINVAL},
	} {
		_, err := shared.NewMutex(c.m, c.off)
		assert.ErrorIs(t, err, c.err, "%d", c.off)
		var e *shared.Error
		if assert.ErrorAs(t, err, &e) {
			assert.Equal(t, c.off, e.Off)
		}
	}
	l, err := shared.NewMutex(m, 64)
	require.NoError(t, err)
	require.NoError(t, l.Lock(background))
	again, err := shared.NewMutex(m, 64)
	require.NoError(t, err)
	assert.Equal(t, shared.ErrLocked, again.TryLock())
	require.NoError(t, again.Unlock(), "any goroutine of the process may unlock")
	closed, err := shm.Map(shm.Shared, 4096, nil)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = shared.NewMutex(closed, 0)
	assert.ErrorIs(t, err, shm.ErrClosed)
	copy(m.Bytes()[256:320], m.Bytes()[64:128])
	_, err = shared.NewMutex(m, 256)
	assert.ErrorIs(t, err, shared.ErrKind, "a copy is not the lock")
	other := newMapping(t, 4096, shm.DefaultTechnique())
	copy(other.Bytes()[64:128], m.Bytes()[64:128])
	_, err = shared.NewMutex(other, 64)
	assert.ErrorIs(t, err, shared.ErrKind, "nor is one in another mapping")
}

func TestMutexAfterAMove(t *testing.T) {
	m := newMapping(t, 4096, shm.Memfd)
	l, err := shared.NewMutex(m, 0)
	require.NoError(t, err)
	require.NoError(t, l.Lock(background))
	before := m.Addr()
	other, err := shm.Map(shm.Shared, 4096, &shm.Config{Technique: shm.Memfd})
	require.NoError(t, err)
	if err := m.MoveTo(other); errors.Is(err, errors.ErrUnsupported) {
		require.NoError(t, other.Close())
		t.Skip(err)
	} else {
		require.NoError(t, err)
	}
	require.NotEqual(t, before, m.Addr())
	l, err = shared.NewMutex(m, 0)
	require.NoError(t, err)
	assert.Equal(t, shared.ErrLocked, l.TryLock())
	require.NoError(t, l.Unlock())
}
