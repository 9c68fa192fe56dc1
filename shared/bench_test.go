//go:build linux && cgo

package shared_test

import (
	"sync"
	"testing"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/require"
)

// Lock and unlock, with nobody else.
func BenchmarkLock(b *testing.B) {
	m := newMapping(b, 4096, shm.DefaultTechnique())
	l, err := shared.NewMutex(m, 0)
	require.NoError(b, err)
	words, err := shm.At[[64]byte](m, 0)
	require.NoError(b, err)
	b.Run("lang=go/impl=sync.Mutex", func(b *testing.B) {
		var mu sync.Mutex
		for b.Loop() {
			mu.Lock()
			//lint:ignore SA2001 nothing is guarded
			mu.Unlock()
		}
	})
	b.Run("lang=go/impl=shared", func(b *testing.B) {
		for b.Loop() {
			if l.Lock(background) != nil || l.Unlock() != nil {
				b.Fatal("not locked")
			}
		}
	})
	b.Run("lang=c/impl=pthread-robust", func(b *testing.B) { require.NoError(b, sharedc.RobustLoop(b.N)) })
	b.Run("lang=c/impl=shared", func(b *testing.B) { require.NoError(b, sharedc.LockLoop(words, b.N)) })
}

// Two processes that wait for each other. An operation is two hand-overs.
func BenchmarkHandOver(b *testing.B) {
	b.Run("impl=futex", func(b *testing.B) { require.NoError(b, ctest.PingPong(b.N)) })
	b.Run("impl=pthread-robust", func(b *testing.B) { require.NoError(b, sharedc.HandOverRobust(b.N)) })
	area := func(b *testing.B) (*shm.Mapping, *sharedc.HandOverArea) {
		m := newMapping(b, int(unsafe.Sizeof(sharedc.HandOverArea{})), shm.DefaultTechnique())
		a, err := shm.At[sharedc.HandOverArea](m, 0)
		require.NoError(b, err)
		for i := range a.Lock {
			_, err := shared.NewMutex(m, 64*i)
			require.NoError(b, err)
		}
		a.Rounds = uint32(b.N)
		return m, a
	}
	b.Run("impl=shared-c", func(b *testing.B) {
		m, a := area(b)
		p, err := m.Fork(sharedc.HandOver, nil)
		require.NoError(b, err)
		require.NoError(b, sharedc.HandOverHere(a))
		require.NoError(b, p.Wait(background))
	})
	b.Run("impl=shared-go", func(b *testing.B) {
		m, a := area(b)
		require.NoError(b, handOver(b, m, a))
	})
}

// handOver is hand_over of bench.h in Go, with a child in C.
func handOver(b *testing.B, m *shm.Mapping, a *sharedc.HandOverArea) error {
	var locks [3]*shared.Mutex
	for i := range locks {
		locks[i], _ = shared.NewMutex(m, 64*i)
	}
	require.NoError(b, locks[0].Lock(background))
	p, err := m.Fork(sharedc.HandOver, nil)
	require.NoError(b, err)
	shared.Meet(&a.Ready)
	for at := range b.N {
		if err := locks[(at+1)%3].Lock(background); err != nil {
			return err
		}
		if err := locks[at%3].Unlock(); err != nil {
			return err
		}
	}
	if err := locks[b.N%3].Unlock(); err != nil {
		return err
	}
	return p.Wait(background)
}

// From a child's kill to what tells of its end.
func BenchmarkDeath(b *testing.B) {
	for _, by := range []string{"wait", "lock"} {
		b.Run("by="+by, func(b *testing.B) {
			m, a, l := newArea(b, shm.DefaultTechnique())
			for range b.N {
				b.StopTimer()
				p := holdByChild(b, m, a, sharedc.MutexLock)
				told := make(chan error)
				go func() {
					if by == "wait" {
						told <- p.Wait(background)
					} else {
						told <- l.Lock(background)
					}
				}()
				if by == "lock" {
					shared.AwaitBell(l)
				}
				b.StartTimer()
				require.NoError(b, p.Kill())
				require.Error(b, <-told)
				b.StopTimer()
				if by == "wait" {
					require.Equal(b, shared.ErrOwnerDied, l.Lock(background))
				}
				require.NoError(b, l.Consistent())
				require.NoError(b, l.Unlock())
			}
		})
	}
}
