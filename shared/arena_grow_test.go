//go:build linux && cgo

package shared_test

import (
	"runtime"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// growingSite is a small arena in a Memfd mapping that can grow up to arenaLength.
func growingSite(t *testing.T, reserve int) *arenaSite {
	m, err := shm.Map(shm.Shared, 1<<15, &shm.Config{Technique: shm.Memfd, Reserve: reserve})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	_, err = shared.NewArena(m, sharedc.ArenaOffset, &shared.ArenaConfig{Max: arenaLength})
	require.NoError(t, err)
	return arenaSiteIn(t, m)
}

func (s *arenaSite) size(t *testing.T) int {
	stats, err := s.a.Stats()
	require.NoError(t, err)
	return stats.Size
}

func TestAnArenaGrowsWithinTheReserve(t *testing.T) {
	s := growingSite(t, 1<<19)
	addr, size := s.m.Addr(), s.size(t)
	n := 0
	for ; ; n++ {
		if err := s.alloc(t, n, 5000); err != nil {
			require.Equal(t, shared.ErrFull, err)
			break
		}
	}
	assert.Equal(t, addr, s.m.Addr())
	assert.Greater(t, s.size(t), size)
	assert.Equal(t, 1<<19-sharedc.ArenaOffset, s.size(t))
	assert.Equal(t, 1<<19, s.m.Len())
	assert.Equal(t, (1<<19-sharedc.ArenaOffset-2*4096)/8192, n)
	s.freeAll(t)
}

// The program makes the arena grow as its children want, also within a sandbox.
func TestAnArenaGrowsForChildren(t *testing.T) {
	for _, f := range forkers {
		t.Run(f.name, func(t *testing.T) {
			s := growingSite(t, arenaLength)
			for i := range uint32(12) {
				s.Act[i] = arenaAct(sharedc.ArenaAlloc, i, 30000)
			}
			s.Act[12] = arenaAct(sharedc.ArenaAlloc, 12, arenaLength)
			p, err := f.fork(t, s.m, sharedc.ArenaActs)
			require.NoError(t, err)
			require.NoError(t, p.Wait(background))
			for i, act := range s.Act[:12] {
				require.Zero(t, act.Result, i)
			}
			assert.EqualValues(t, unix.ENOMEM, s.Act[12].Result)
			assert.Greater(t, s.size(t), 12*30000)
			for i := range 12 {
				require.NoError(t, s.free(t, i))
			}
			s.freeAll(t)
			runtime.KeepAlive(s.a)
		})
	}
}

// A process that has only a part of the arena's units, as the child of a live fork may have, does not
// mend what lies beyond them.
func TestAPartOfAnArenaIsNotMended(t *testing.T) {
	s := newArenaSite(t, shm.DefaultTechnique())
	require.NoError(t, s.alloc(t, 0, 64))
	for units := range uint32(7) { // the chunk is beyond, cut off, and whole
		shared.DieMakingAChunk(s.a)
		shared.RecountWith(s.a, 1+units)
		s.check(t)
		require.NoError(t, s.alloc(t, 1, 9000))
		require.NoError(t, s.free(t, 1))
		require.NoError(t, s.free(t, 0))
		require.NoError(t, s.alloc(t, 0, 64))
	}
	s.freeAll(t)
}

// A child has cut the object short while the program looks what children want.
func TestAnArenaThatIsCutShortDoesNotGrow(t *testing.T) {
	s := growingSite(t, arenaLength)
	f, err := s.m.File()
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(0))
	shared.GrowAsWanted(s.a)
	require.NoError(t, f.Truncate(int64(s.m.Len())))
}

// A Ref stays what it is when the mapping moves.
func TestRefsStayValidWhereTheMappingMoves(t *testing.T) {
	m, err := shm.Map(shm.Shared, 1<<16, &shm.Config{Technique: shm.Memfd})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	_, err = shared.NewArena(m, sharedc.ArenaOffset, &shared.ArenaConfig{Max: arenaLength})
	require.NoError(t, err)
	s := arenaSiteIn(t, m)
	require.NoError(t, s.alloc(t, 0, 1000))
	require.Equal(t, shared.ErrFull, s.alloc(t, 1, 60000))
	before := s.m.Addr()
	place, err := shm.Map(shm.Private, 1<<16, nil)
	require.NoError(t, err)
	require.NoError(t, m.MoveTo(place))
	require.NotEqual(t, before, s.m.Addr())
	require.NoError(t, m.Resize(1<<18, shm.MayMove))
	s = arenaSiteIn(t, m)
	require.NoError(t, s.alloc(t, 1, 60000))
	require.NoError(t, s.free(t, 0))
	require.NoError(t, s.free(t, 1))
	s.freeAll(t)
}
