//go:build linux && cgo

package shared_test

import (
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/require"
)

// An allocation of 64 bytes, and a free.
func BenchmarkArena(b *testing.B) {
	s := arenaSiteIn(b, newMapping(b, arenaLength, shm.DefaultTechnique()))
	b.Run("lang=c/impl=malloc", func(b *testing.B) { require.NoError(b, sharedc.MallocLoop(64, b.N)) })
	b.Run("lang=c/impl=shared", func(b *testing.B) {
		require.NoError(b, sharedc.ArenaLoop(s.m.Addr(), 64, &s.Ref[0], b.N))
	})
	b.Run("lang=go/impl=shared", func(b *testing.B) {
		r, err := shm.At[shared.Ref[[64]byte]](s.m, 8)
		require.NoError(b, err)
		for b.Loop() {
			if _, err := shared.Alloc(s.a, r); err != nil {
				b.Fatal(err)
			}
			if err := shared.Free(s.a, r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// What a death in the midst of Alloc costs, and one look at each cell, with 200 000 blocks of 64 bytes.
func BenchmarkArenaRecovery(b *testing.B) {
	type node struct {
		next shared.Ref[node]
		_    [56]byte
	}
	s := arenaSiteIn(b, newMapping(b, 16<<20, shm.DefaultTechnique()))
	at, err := shm.At[shared.Ref[node]](s.m, 0)
	require.NoError(b, err)
	for range 200_000 {
		n, err := shared.Alloc(s.a, at)
		require.NoError(b, err)
		at = &n.next
	}
	b.Run("impl=cells", func(b *testing.B) {
		for b.Loop() {
			shared.CountCells(s.a)
		}
	})
	b.Run("impl=shared", func(b *testing.B) {
		for b.Loop() {
			shared.DieInAlloc(s.a, &s.Ref[1])
		}
	})
}
