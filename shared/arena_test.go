//go:build linux && cgo

package shared_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// arenaSite is an arena, and Refs that children and goroutines share.
type arenaSite struct {
	*sharedc.ArenaSite
	m    *shm.Mapping
	a    *shared.Arena
	refs []shared.Ref[byte]
}

const arenaLength = 1 << 20

func newArenaSite(t testing.TB, technique shm.Technique) *arenaSite {
	return arenaSiteIn(t, newMapping(t, arenaLength, technique))
}

func arenaSiteIn(t testing.TB, m *shm.Mapping) *arenaSite {
	s := &arenaSite{m: m}
	var err error
	s.ArenaSite, err = shm.At[sharedc.ArenaSite](m, 0)
	require.NoError(t, err)
	s.a, err = shared.NewArena(m, sharedc.ArenaOffset, nil)
	require.NoError(t, err)
	s.refs = unsafe.Slice((*shared.Ref[byte])(unsafe.Pointer(&s.Ref)), len(s.Ref))
	return s
}

// fork forks a child that acts. The acts are at a place of their own for each child.
func (s *arenaSite) fork(t testing.TB, at int, acts ...sharedc.ArenaAct) *shm.Process {
	copy(s.Act[at:], append(acts, sharedc.ArenaAct{}))
	atomic.StoreUint32(&s.Done, 0)
	p, err := s.m.Fork(sharedc.ArenaActs, &shm.ForkConfig{Arg: uintptr(at)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Kill(); _ = p.Wait(background) })
	return p
}

// act has a child act, and returns the results.
func (s *arenaSite) act(t testing.TB, acts ...sharedc.ArenaAct) []unix.Errno {
	require.NoError(t, s.fork(t, 0, acts...).Wait(background))
	results := make([]unix.Errno, len(acts))
	for i := range acts {
		results[i] = unix.Errno(s.Act[i].Result)
	}
	return results
}

// alloc allocates as a child does.
func (s *arenaSite) alloc(t testing.TB, i, size int) error {
	s.Size[i] = uint32(size)
	b, err := shared.AllocSlice(s.a, &s.refs[i], size)
	if err == nil {
		require.Equal(t, size, len(b))
		require.Equal(t, size, bytes.Count(b, []byte{0}))
		require.Equal(t, b, s.refs[i].Slice(s.a, size))
		copy(b, bytes.Repeat([]byte{byte(i + 1)}, size))
	}
	return err
}

// free frees as a child does.
func (s *arenaSite) free(t testing.TB, i int) error {
	size := int(s.Size[i])
	b := s.refs[i].Slice(s.a, size)
	require.Equal(t, size, bytes.Count(b, []byte{byte(i + 1)}), "the block of %d is owned twice", i)
	return shared.Free(s.a, &s.refs[i])
}

// check checks that the blocks in use are those that Refs name, and whole.
func (s *arenaSite) check(t testing.TB) {
	require.NoError(t, s.a.Check())
	stats, err := s.a.Stats()
	require.NoError(t, err)
	require.Zero(t, stats.Lost)
	named := map[uint64]bool{}
	for _, r := range s.refs {
		if !r.IsNil() {
			require.False(t, named[r.Off()], "two own the block at %d", r.Off())
			named[r.Off()] = true
		}
	}
	require.Len(t, named, stats.Used)
}

// freeAll frees all that there is, and checks that nothing is left.
func (s *arenaSite) freeAll(t testing.TB) {
	s.check(t)
	for i, r := range s.refs {
		if !r.IsNil() {
			require.NoError(t, shared.Free(s.a, &s.refs[i]))
		}
	}
	s.check(t)
	assert.Zero(t, shared.Held())
}

func TestSizeClassesAreTheSameInC(t *testing.T) {
	for class := range uint32(shared.ArenaClasses) {
		c := shared.BlockClass(class)
		assert.Equal(t, sharedc.ArenaClass(class), c)
		units, blocks, first, size := c[0], c[1], c[2], c[3]
		assert.LessOrEqual(t, first+blocks*size, units*4096)
		assert.GreaterOrEqual(t, first, 64+4*blocks)
		for _, n := range []uint64{size, size - 15} {
			if class < 28 || n == size {
				assert.Equal(t, class, shared.ArenaClassFor(n), n)
			}
		}
		assert.Equal(t, class+1, shared.ArenaClassFor(size+1), size)
	}
	for range 10000 {
		n := rand.Uint64() >> rand.IntN(64)
		assert.Equal(t, sharedc.ArenaClassFor(n), shared.ArenaClassFor(n), n)
	}
	assert.Zero(t, shared.ArenaClassFor(0))
}

func TestAllocAndFree(t *testing.T) {
	type node struct {
		next  shared.Ref[node]
		value int64
	}
	forEach(t, func(t *testing.T, technique shm.Technique) {
		s := newArenaSite(t, technique)
		head, err := shm.At[shared.Ref[node]](s.m, 0)
		require.NoError(t, err)
		at := head
		for i := range 1000 { // a list, in more than one chunk
			n, err := shared.Alloc(s.a, at)
			require.NoError(t, err)
			require.Equal(t, node{}, *n)
			n.value = int64(i)
			at = &n.next
		}
		i := 0
		for n := head.In(s.a); n != nil; n = n.next.In(s.a) {
			require.EqualValues(t, i, n.value)
			i++
		}
		assert.Equal(t, 1000, i)
		stats, err := s.a.Stats()
		require.NoError(t, err)
		assert.Equal(t, 1000, stats.Used)
		assert.Equal(t, []shared.ArenaClass{{Size: 16, Used: 1000, Free: 632}}, stats.Classes)
		for !head.IsNil() {
			next := head.In(s.a).next
			require.NoError(t, shared.Free(s.a, head))
			require.True(t, head.IsNil())
			*head = next
		}
		s.freeAll(t)
	})
}

func TestAllocAndFreeRefuse(t *testing.T) {
	s := newArenaSite(t, shm.DefaultTechnique())
	r := &s.refs[0]
	assert.Equal(t, shared.ErrNotAllocated, shared.Free(s.a, r))
	require.NoError(t, s.alloc(t, 0, 100))
	_, err := shared.Alloc(s.a, r)
	assert.Equal(t, shared.ErrNotNil, err)
	s.Ref[1], s.Ref[2], s.Ref[3] = r.Off(), r.Off()+16, 64
	require.NoError(t, shared.Free(s.a, r))
	for i := range 4 {
		assert.Equal(t, shared.ErrNotAllocated, shared.Free(s.a, &s.refs[i]), i)
	}
	assert.Nil(t, s.refs[0].In(s.a))
	assert.NotNil(t, s.refs[1].In(s.a), "the range is good")
	s.Ref[4] = arenaLength
	assert.Nil(t, s.refs[4].In(s.a))
	assert.Nil(t, s.refs[1].Slice(s.a, arenaLength))
	assert.Nil(t, s.refs[1].Slice(s.a, -1))
	clear(s.Ref[:])

	var outside shared.Ref[byte]
	_, err = shared.Alloc(s.a, &outside)
	assert.Equal(t, shared.ErrOutside, err)
	var pointer shared.Ref[*int]
	_, err = shared.Alloc(s.a, &pointer)
	assert.ErrorIs(t, err, shm.ErrType)
	assert.Nil(t, pointer.In(s.a))
	for _, n := range []int{arenaLength, math.MaxInt / 4, math.MaxInt/2 + 1, -1} {
		_, err = shared.AllocSlice(s.a, r, n)
		assert.Equal(t, shared.ErrFull, err, n)
	}
	assert.Equal(t, []unix.Errno{0, unix.EEXIST, 0, unix.EINVAL, unix.ENOMEM}, s.act(t,
		sharedc.ArenaAct{Op: sharedc.ArenaAlloc, I: 7, Size: 100},
		sharedc.ArenaAct{Op: sharedc.ArenaAlloc, I: 7, Size: 100},
		sharedc.ArenaAct{Op: sharedc.ArenaFree, I: 7, Size: 100},
		sharedc.ArenaAct{Op: sharedc.ArenaFree, I: 7, Size: 100},
		sharedc.ArenaAct{Op: sharedc.ArenaAlloc, I: 7, Size: arenaLength}))
	s.freeAll(t)
}

func TestNewArenaRefuses(t *testing.T) {
	m := newMapping(t, 1<<16, shm.DefaultTechnique())
	for _, c := range []struct {
		off, max int
		err      error
	}{
		{8, 0, shm.ErrAlign},
		{64, -1, unix.EINVAL},
		{64, 4096, shm.ErrRange},
		{1<<16 - 4096, 0, shm.ErrRange},
		{1 << 16, 0, shm.ErrRange},
		{1 << 17, 0, shm.ErrRange},
		{64, 1 << 30, shm.ErrRange}, // the table would not lie in the mapping
	} {
		_, err := shared.NewArena(m, c.off, &shared.ArenaConfig{Max: c.max})
		assert.ErrorIs(t, err, c.err, "%d %d", c.off, c.max)
	}
	_, err := shared.NewMutex(m, 64)
	require.NoError(t, err)
	_, err = shared.NewArena(m, 64, nil)
	assert.ErrorIs(t, err, shared.ErrKind)
	a, err := shared.NewArena(m, 128, &shared.ArenaConfig{Max: 20000})
	require.NoError(t, err)
	stats, err := a.Stats()
	require.NoError(t, err)
	assert.Equal(t, shared.ArenaStats{Size: 16384, Max: 16384, Left: 12288}, stats)
}

// An arena that is full has room again for what is freed, wherever that is.
func TestAFullArenaHasRoomForWhatIsFreed(t *testing.T) {
	s := newArenaSite(t, shm.DefaultTechnique())
	sizes := []int{16, 100, 4096, 5000, 20000}
	n := 0
	for ; n < len(s.refs); n++ {
		if err := s.alloc(t, n, sizes[n%len(sizes)]); err != nil {
			require.Equal(t, shared.ErrFull, err)
			break
		}
	}
	require.Less(t, n, len(s.refs))
	for range 1000 {
		i := rand.IntN(n)
		require.NoError(t, s.free(t, i))
		require.NoError(t, s.alloc(t, i, sizes[i%len(sizes)]))
	}
	s.freeAll(t)
	stats, err := s.a.Stats()
	require.NoError(t, err)
	for range 2 { // hints are lost, for example by a death: all is found
		s.freeAll(t)
		for i := range n {
			require.NoError(t, s.alloc(t, i, sizes[i%len(sizes)]), i)
		}
		for _, chunk := range shared.ArenaMeta(s.a)[1:] {
			copy(chunk, []byte{0xff, 0xff, 0xff, 0xff})
		}
		shared.ForgetHints(s.a)
	}
	after, err := s.a.Stats()
	require.NoError(t, err)
	assert.Equal(t, stats.Left, after.Left)
	s.freeAll(t)
}

// A random history in one process: what the Refs name stays as it was written, and never overlaps.
func TestRandomAllocations(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		s := newArenaSite(t, technique)
		full := 0
		for range 5000 {
			if i := rand.IntN(len(s.refs)); s.refs[i].IsNil() {
				if err := s.alloc(t, i, int(rand.ExpFloat64()*1500)); err != nil {
					require.Equal(t, shared.ErrFull, err)
					full++
				}
			} else {
				require.NoError(t, s.free(t, i))
			}
		}
		t.Logf("%d times full", full)
		s.freeAll(t)
	})
}

// Children and goroutines allocate and free at once, each for Refs of its own.
func TestChildrenAndGoroutinesAllocateAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		s := newArenaSite(t, technique)
		const rounds = 4000
		var children []*shm.Process
		for i := range uint32(2) {
			random := sharedc.ArenaAct{Op: sharedc.ArenaRandom, I: 100 * i, Size: rounds}
			children = append(children, s.fork(t, 2*int(i), random))
		}
		var party atomic.Int32
		inParallel(2, func() {
			first := 200 + 100*(int(party.Add(1))-1)
			for range rounds / 4 {
				if i := first + rand.IntN(100); s.refs[i].IsNil() {
					if err := s.alloc(t, i, int(rand.ExpFloat64()*150)); err != nil {
						assert.Equal(t, shared.ErrFull, err)
					}
				} else {
					assert.NoError(t, s.free(t, i))
				}
			}
		})
		for i, p := range children {
			require.NoError(t, p.Wait(background))
			assert.Zero(t, s.Act[2*i].Result)
		}
		s.freeAll(t)
	})
}
