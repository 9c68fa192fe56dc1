//go:build linux && cgo

package shared_test

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/internal/testenv"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func arenaAct(op, i, size uint32) sharedc.ArenaAct { return sharedc.ArenaAct{Op: op, I: i, Size: size} }

// Each Ref names a block, or there is no block, after a child was killed at each instruction.
func TestAChildIsKilledAtEachInstructionOfAllocAndFree(t *testing.T) {
	trace, stop := arenaAct(sharedc.ArenaTrace, 0, 0), arenaAct(sharedc.ArenaStop, 0, 0)
	alloc, free := arenaAct(sharedc.ArenaTake, 1, 64), arenaAct(sharedc.ArenaGive, 1, 64)
	for _, c := range []struct {
		name   string
		before []sharedc.ArenaAct // by another child
		acts   []sharedc.ArenaAct
	}{
		{"alloc", []sharedc.ArenaAct{arenaAct(sharedc.ArenaTake, 2, 64)}, []sharedc.ArenaAct{trace, stop, alloc, stop}},
		{"alloc that makes a chunk", nil, []sharedc.ArenaAct{trace, stop, alloc, stop}},
		{"alloc in vain", nil, []sharedc.ArenaAct{trace, stop, arenaAct(sharedc.ArenaTake, 1, arenaLength), stop}},
		{"free", nil, []sharedc.ArenaAct{trace, alloc, stop, free, stop}},
		{"free twice", nil, []sharedc.ArenaAct{trace, alloc, free, stop, free, stop}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newArenaSite(t, shm.DefaultTechnique())
			fresh := append([]byte(nil), s.m.Bytes()...)
			require.Zero(t, shared.Held())
			owners, named := shared.Owners(), map[bool]int{}
			atEach(t, func(n int) bool {
				copy(s.m.Bytes(), fresh)
				s.act(t, c.before...)
				copy(s.Act[:], append(c.acts, sharedc.ArenaAct{}))
				child := traceChild(t, s.m, sharedc.ArenaActs)
				_, stopped := child.step(n)
				child.kill()
				s.check(t)
				require.Equal(t, owners, shared.Owners())
				named[!s.refs[1].IsNil()]++
				s.goesOn(t)
				return stopped
			})
			t.Logf("the Ref was nil %d times, and named a block %d times", named[false], named[true])
			assert.Zero(t, shared.Held())
		})
	}
}

// A child is killed while it frees a Ref that another process has freed meanwhile. The block that the
// other process has made there since then is not freed.
func TestAChildIsKilledWhileAnotherFreesTheSameRef(t *testing.T) {
	s := newArenaSite(t, shm.DefaultTechnique())
	stop := arenaAct(sharedc.ArenaStop, 0, 0)
	acts := []sharedc.ArenaAct{arenaAct(sharedc.ArenaTrace, 0, 0), stop, arenaAct(sharedc.ArenaGive, 1, 64), stop}
	met := 0
	atEach(t, func(n int) bool {
		require.NoError(t, s.alloc(t, 1, 64))
		copy(s.Act[:], append(acts, sharedc.ArenaAct{}))
		child := traceChild(t, s.m, sharedc.ArenaActs)
		_, stopped := child.step(n)
		if off := s.refs[1].Off(); !stopped && shared.IsUsed(s.a, off) {
			require.NoError(t, s.free(t, 1))
			require.NoError(t, s.alloc(t, 2, 64))
			require.Equal(t, off, s.refs[2].Off())
			for ended := false; !ended && shared.IsUsed(s.a, off); {
				_, ended = child.step(1)
			}
			if !shared.IsUsed(s.a, off) {
				met++
				_, _ = child.step(n % 4)
			}
		}
		child.kill()
		s.freeAll(t)
		return stopped
	})
	t.Logf("the child had the other's block %d times", met)
}

// goesOn checks that others can use the arena.
func (s *arenaSite) goesOn(t *testing.T) {
	if !s.refs[1].IsNil() {
		require.NoError(t, shared.Free(s.a, &s.refs[1]))
	}
	require.NoError(t, s.alloc(t, 1, 64))
	require.NoError(t, s.alloc(t, 3, 9000))
	require.NoError(t, s.free(t, 3))
	require.NoError(t, s.free(t, 1))
	s.check(t)
}

// Children are killed at random while they and goroutines allocate and free.
func TestChildrenAreKilledWhileTheyAllocate(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		s := newArenaSite(t, technique)
		var stop atomic.Bool
		done := make(chan struct{})
		go func() {
			defer close(done)
			for !stop.Load() {
				if i := 300 + rand.IntN(100); s.refs[i].IsNil() {
					if err := s.alloc(t, i, int(rand.ExpFloat64()*150)); err != nil {
						assert.Equal(t, shared.ErrFull, err)
					}
				} else {
					assert.NoError(t, s.free(t, i))
				}
				assert.NoError(t, s.a.Check())
			}
		}()
		for round := range 12 {
			at := 2 * (round % 3)
			s.clearBroken(t, 50*at)
			p := s.fork(t, at, arenaAct(sharedc.ArenaRandom, uint32(50*at), 1<<30))
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			require.NoError(t, p.Kill())
			require.Error(t, p.Wait(background))
			require.Zero(t, s.Act[at].Result)
		}
		stop.Store(true)
		<-done
		s.freeAll(t)
	})
}

// clearBroken frees blocks whose child died before they were filled, as another child would find them
// broken.
func (s *arenaSite) clearBroken(t *testing.T, first int) {
	for i := first; i < first+100; i++ {
		if !s.refs[i].IsNil() {
			require.NoError(t, shared.Free(s.a, &s.refs[i]))
		}
	}
}

// Whoever gets a lock after its owner's death may move the Refs that the lock guards.
func TestAnArenaIsMendedBeforeLocks(t *testing.T) {
	s := newArenaSite(t, shm.DefaultTechnique())
	l, err := shared.NewMutex(s.m, sharedc.ArenaLockOffset)
	require.NoError(t, err)
	acts := []sharedc.ArenaAct{arenaAct(sharedc.ArenaTrace, 0, 0), arenaAct(sharedc.ArenaLock, 0, 0),
		arenaAct(sharedc.ArenaStop, 0, 0), arenaAct(sharedc.ArenaTake, 1, 64), arenaAct(sharedc.ArenaStop, 0, 0)}
	atEach(t, func(n int) bool {
		copy(s.Act[:], append(acts, sharedc.ArenaAct{}))
		child := traceChild(t, s.m, sharedc.ArenaActs)
		_, stopped := child.step(n)
		moved := make(chan error)
		go func() {
			err := l.Lock(background)
			s.Ref[5], s.Ref[1] = s.Ref[1], 0
			moved <- err
		}()
		shared.AwaitWaiter(l)
		child.kill()
		require.Equal(t, shared.ErrOwnerDied, <-moved)
		require.NoError(t, l.Consistent())
		require.NoError(t, l.Unlock())
		s.freeAll(t)
		return stopped
	})
}

func TestEachKindOfChildAllocates(t *testing.T) {
	for _, f := range forkers {
		t.Run(f.name, func(t *testing.T) {
			s := newArenaSite(t, shm.DefaultTechnique())
			s.Act[0], s.Act[1] = arenaAct(sharedc.ArenaRandom, 0, 300), arenaAct(sharedc.ArenaPause, 0, 0)
			p, err := f.fork(t, s.m, sharedc.ArenaActs)
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			require.NoError(t, err)
			require.True(t, testenv.Eventually(func() bool { return atomic.LoadUint32(&s.Done) == 1 }))
			require.NoError(t, p.Kill())
			require.Error(t, p.Wait(background))
			assert.Zero(t, s.Act[0].Result)
			s.freeAll(t)
		})
	}
}
