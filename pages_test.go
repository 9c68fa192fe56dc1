//go:build linux && cgo

package shm_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/hugepage"
	"forkshm.example/shm/internal/procmaps"
	"forkshm.example/shm/internal/testenv"
)

func TestDetachTakesTheDataAway(t *testing.T) {
	needLinux513(t)
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, reserve := range []int{0, 16 * page} {
			m := newMapping(t, sharing, odd, with(cfg, func(c *shm.Config) { c.Reserve = reserve }))
			want, addr := pattern(m), m.Addr()
			taken, err := m.Detach()
			if sharing == shm.Shared {
				assert.ErrorIs(t, err, errors.ErrUnsupported)
				assert.Equal(t, want, m.Bytes())
				continue
			}
			require.NoError(t, err)
			assert.Equal(t, want, taken.Bytes())
			assert.Equal(t, addr, m.Addr())
			assert.Equal(t, make([]byte, odd), m.Bytes())
			pattern(m)[0] = 3
			require.NoError(t, taken.Resize(5<<20, shm.MayMove))
			assert.Equal(t, want, taken.Bytes()[:odd])
			taken.Bytes()[5<<20-1] = 1
			require.NoError(t, m.Resize(4*page, shm.MayMove))
			assert.Equal(t, want, m.Bytes()[:odd])
			require.NoError(t, taken.Close())
			assert.Equal(t, want, m.Bytes()[:odd])
		}
	})
}

func TestDetachKeepsHugePagesAligned(t *testing.T) {
	size := hugepage.Transparent()
	m := newMapping(t, shm.Private, 2*size,
		&shm.Config{Technique: shm.Anonymous, Huge: shm.HugeTransparent})
	want := pattern(m)
	huge := must(m.Stats()).Huge
	taken, err := m.Detach()
	require.NoError(t, err)
	defer taken.Close()
	assert.Zero(t, uintptr(taken.Addr())%uintptr(size))
	assert.GreaterOrEqual(t, must(taken.Stats()).Huge, huge,
		"the kernel may add some of its own accord")
	assert.True(t, bytes.Equal(want, taken.Bytes()))
}

func TestSwapExchangesPages(t *testing.T) {
	for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero} {
		a, b := newMapping(t, shm.Private, odd, &shm.Config{Technique: technique}),
			newMapping(t, shm.Private, 2*page, &shm.Config{Technique: technique})
		pattern(a)
		for i := range b.Bytes() {
			b.Bytes()[i] = byte(i * 3)
		}
		wantA, wantB := bytes.Clone(a.Bytes()), bytes.Clone(b.Bytes())
		addrA, addrB := a.Addr(), b.Addr()
		require.NoError(t, a.Swap(b))
		assert.Equal(t, []unsafe.Pointer{addrA, addrB}, []unsafe.Pointer{a.Addr(), b.Addr()})
		assert.Equal(t, wantB[:odd], a.Bytes())
		assert.Equal(t, wantA, b.Bytes()[:odd])
		require.NoError(t, b.Swap(a))
		assert.Equal(t, wantA, a.Bytes())
		assert.Equal(t, wantB, b.Bytes())
		require.NoError(t, a.Swap(a))
		require.NoError(t, a.Resize(1<<20, shm.MayMove))
		assert.ErrorIs(t, a.Swap(b), shm.ErrRange)
		assert.ErrorIs(t, a.Swap(nil), shm.ErrClosed)
	}
	m := newMapping(t, shm.Shared, page, nil)
	assert.ErrorIs(t, m.Swap(newMapping(t, shm.Shared, page, nil)), errors.ErrUnsupported)
}

func TestSwapKeepsHugePages(t *testing.T) {
	cfg := &shm.Config{Technique: shm.Anonymous, Huge: shm.HugeTransparent}
	size := 2 * hugepage.Transparent()
	a, b := newMapping(t, shm.Private, size, cfg), newMapping(t, shm.Private, size, cfg)
	want := pattern(a)
	huge := must(a.Stats()).Huge
	require.NoError(t, a.Swap(b))
	assert.GreaterOrEqual(t, must(b.Stats()).Huge, huge,
		"the kernel may add some of its own accord")
	assert.True(t, bytes.Equal(want, b.Bytes()))
	assert.True(t, bytes.Equal(make([]byte, size), a.Bytes()))
}

// Random exchanges between and within mappings, held against plain slices; then
// both must still grow.
func TestSwapPagesScattersAndGathers(t *testing.T) {
	for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero} {
		for _, cfg := range []shm.Config{{}, {Reserve: 64 * page}, {Guard: true},
			{Huge: shm.HugeTransparent}} {
			t.Run(fmt.Sprintf("%v/%+v", technique, cfg), func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				random := rand.New(rand.NewPCG(seed, 0))
				cfg.Technique = technique
				const n = 24
				ms := []*shm.Mapping{newMapping(t, shm.Private, n*page, &cfg),
					newMapping(t, shm.Private, n*page-100, &cfg)}
				var want [2][]byte
				for i, m := range ms {
					want[i] = make([]byte, n*page)
					for p := range n {
						for j := range page {
							want[i][p*page+j] = byte(1 + i*n + p)
						}
					}
					copy(m.Bytes(), want[i])
					clear(want[i][m.Len():])
				}
				for range 200 {
					a, b := random.IntN(2), random.IntN(2)
					length := random.IntN(5)
					off, otherOff := random.IntN(n-length+1), random.IntN(n-length+1)
					err := ms[a].SwapPages(off*page, ms[b], otherOff*page, length*page)
					if d := off - otherOff; a == b && d != 0 && max(d, -d) < length {
						require.ErrorIs(t, err, shm.ErrRange)
						continue
					}
					require.NoError(t, err)
					x, y := want[a][off*page:][:length*page], want[b][otherOff*page:][:length*page]
					kept := bytes.Clone(x)
					copy(x, y)
					copy(y, kept)
					for i, m := range ms {
						require.True(t, bytes.Equal(want[i][:m.Len()], m.Bytes()))
					}
				}
				for _, length := range []int{n*page + 1, 40 * page, 5 << 20} {
					for i, m := range ms {
						require.NoError(t, m.Resize(length, shm.MayMove))
						require.True(t, bytes.Equal(want[i], m.Bytes()[:n*page]))
						require.Equal(t, make([]byte, length-n*page), m.Bytes()[n*page:])
						if cfg.Guard {
							assertFaults(t, m)
						}
					}
				}
				require.NoError(t, ms[0].Resize(page, shm.InPlace))
				assert.Equal(t, want[0][:page], ms[0].Bytes())
			})
		}
	}
}

func TestSwapPagesRefused(t *testing.T) {
	cfg := &shm.Config{Technique: shm.Anonymous}
	m, other := newMapping(t, shm.Private, 4*page, cfg), newMapping(t, shm.Private, odd, cfg)
	closed := newMapping(t, shm.Private, page, cfg)
	require.NoError(t, closed.Close())
	want, wantOther := pattern(m), pattern(other)
	for _, row := range []struct {
		off      int
		other    *shm.Mapping
		otherOff int
		length   int
		want     error
	}{
		{1, other, 0, page, shm.ErrAlign},
		{0, other, 100, page, shm.ErrAlign},
		{0, other, 0, 100, shm.ErrAlign},
		{0, other, 0, 904, shm.ErrAlign},
		{-page, other, 0, page, shm.ErrRange},
		{0, other, -page, page, shm.ErrRange},
		{0, other, 0, -page, shm.ErrRange},
		{0, other, page, 2 * page, shm.ErrRange},
		{4 * page, other, 0, page, shm.ErrRange},
		{math.MaxInt &^ (page - 1), other, 0, page, shm.ErrRange},
		{page, other, 0, math.MaxInt &^ (page - 1), shm.ErrRange},
		{0, m, page, 2 * page, shm.ErrRange},
		{0, nil, 0, page, shm.ErrClosed},
		{0, closed, 0, page, shm.ErrClosed},
		{0, newMapping(t, shm.Private, page, &shm.Config{Technique: shm.DevZero}), 0, page,
			errors.ErrUnsupported},
		{0, newMapping(t, shm.Shared, page, cfg), 0, page, errors.ErrUnsupported},
		{0, newMapping(t, shm.Private, page, &shm.Config{Technique: shm.Memfd}), 0, page,
			errors.ErrUnsupported},
		{0,
			newMapping(t, shm.Private, page,
				&shm.Config{Technique: shm.Anonymous, Huge: shm.HugeTransparent}), 0, page,
			errors.ErrUnsupported},
	} {
		assert.ErrorIs(t, m.SwapPages(row.off, row.other, row.otherOff, row.length), row.want,
			"%+v", row)
	}
	for _, unlike := range []func(*shm.Mapping) error{(*shm.Mapping).Lock,
		func(m *shm.Mapping) error { return m.Protect(shm.ReadOnly) }} {
		third := newMapping(t, shm.Private, page, cfg)
		require.NoError(t, unlike(third))
		assert.ErrorIs(t, m.SwapPages(0, third, 0, page), errors.ErrUnsupported)
		assert.ErrorIs(t, third.SwapPages(0, m, 0, page), errors.ErrUnsupported)
	}
	assert.ErrorIs(t, closed.SwapPages(0, m, 0, page), shm.ErrClosed)
	assert.EqualError(t, m.SwapPages(0, other, page, 2*page),
		fmt.Sprintf("shm: swap %d bytes: offsets 0 and %d, %d bytes: out of range of mappings of "+
			"%d and %d bytes", 4*page, page, 2*page, 4*page, odd))
	assert.NoError(t, m.SwapPages(4*page, other, 2*page, 0), "nothing")
	assert.NoError(t, m.SwapPages(page, m, page, 2*page), "the same pages")
	assert.Equal(t, want, m.Bytes())
	assert.Equal(t, wantOther, other.Bytes())
}

// What the kernel fails in its midst is put back, whichever step it is.
func TestSwapThatFailsLosesNothing(t *testing.T) {
	const mseal = 462 // Linux 6.10
	if !inOwnProcess(t, nil) {
		return
	}
	cfg := &shm.Config{Technique: shm.Anonymous}
	newPair := func() (a, b *shm.Mapping, wantA, wantB []byte) {
		// A sealed mapping cannot be closed.
		a, b = must(shm.Map(shm.Private, 4*page, cfg)), must(shm.Map(shm.Private, 4*page, cfg))
		wantA, wantB = pattern(a), pattern(b)
		for i := range wantB {
			wantB[i] ^= 0xFF
		}
		copy(b.Bytes(), wantB)
		return
	}
	for sealed := range 4 {
		a, b, wantA, wantB := newPair()
		if _, _, errno := unix.Syscall(mseal, uintptr(a.Addr())+uintptr(sealed*page), uintptr(page),
			0); errno == unix.ENOSYS {
			t.Skip("this kernel cannot seal memory")
		}
		for range 3 {
			assert.ErrorIs(t, a.Swap(b), unix.EPERM)
			assert.ErrorIs(t, b.Swap(a), unix.EPERM)
			_, err := a.Detach()
			assert.ErrorIs(t, err, unix.EPERM)
			assert.ErrorIs(t, a.Resize(1<<20, shm.MayMove), unix.EPERM)
			require.Equal(t, wantA, a.Bytes())
			require.Equal(t, wantB, b.Bytes())
		}
	}
	testenv.SpareThreads()
	testenv.SpareMemory()
	a, b, wantA, wantB := newPair()
	limit := unix.Rlimit{Cur: uint64(addressSpace(t)), Max: unix.RLIM_INFINITY}
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_AS, &before))
	for range 8 { // each step, as there is room for one more
		limit.Cur, limit.Max = limit.Cur+uint64(2*page), before.Max
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &limit))
		swapErr := a.Swap(b)
		taken, detachErr := a.Detach()
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &before))
		if swapErr == nil {
			wantA, wantB = wantB, wantA
		} else {
			assert.ErrorIs(t, swapErr, unix.ENOMEM)
		}
		if detachErr == nil {
			assert.Equal(t, wantA, taken.Bytes())
			require.NoError(t, taken.Swap(a))
			require.NoError(t, taken.Close())
		} else {
			assert.ErrorIs(t, detachErr, unix.ENOMEM)
		}
		require.Equal(t, wantA, a.Bytes())
		require.Equal(t, wantB, b.Bytes())
	}
}

func TestSwapFromManyGoroutines(t *testing.T) {
	cfg := &shm.Config{Technique: shm.Anonymous, Reserve: 16 * page}
	var ms [3]*shm.Mapping
	for i := range ms {
		ms[i] = newMapping(t, shm.Private, 8*page, cfg)
		for p := range 8 {
			ms[i].Bytes()[p*page] = byte(1 + i*8 + p)
		}
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			random := rand.New(rand.NewPCG(uint64(g), 0))
			for range 100 {
				off, otherOff := random.IntN(8)*page, random.IntN(8)*page
				assert.NoError(t,
					ms[random.IntN(3)].SwapPages(off, ms[random.IntN(3)], otherOff, page))
			}
		}()
	}
	wg.Wait()
	seen := map[byte]int{}
	for _, m := range ms {
		for p := range 8 {
			seen[m.Bytes()[p*page]]++
		}
	}
	assert.Len(t, seen, 24, "each page is somewhere, once")
}

// A mapping that advice or protection split grows all the same, and its parts
// stay what they were.
func TestSplitMappingGrows(t *testing.T) {
	needLinux513(t)
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		if sharing == shm.Shared && cfg.Technique != shm.Memfd {
			return // it does not grow
		}
		for _, change := range []func(*shm.Config){
			func(c *shm.Config) {}, func(c *shm.Config) { c.Reserve = 8 * page },
			func(c *shm.Config) { c.Guard = true },
			func(c *shm.Config) { c.Populate = true },
			func(c *shm.Config) { c.Huge = shm.HugeTransparent },
		} {
			c := with(cfg, change)
			t.Run(fmt.Sprintf("%+v", *c), func(t *testing.T) {
				m := newMapping(t, sharing, 4*page, c)
				want := pattern(m)
				require.NoError(t, m.Advise(page, page, unix.MADV_DONTFORK))
				require.NoError(t, m.Advise(3*page, page, unix.MADV_DONTDUMP))
				for _, length := range []int{4*page + 1, 6 * page, 9 * page, 5 << 20, 7 << 20} {
					require.NoError(t, m.Resize(length, shm.MayMove))
					require.Equal(t, length, m.Len())
					require.Equal(t, want, m.Bytes()[:4*page])
					assert.Empty(t, bytes.Trim(m.Bytes()[4*page:], "\x00"))
					m.Bytes()[length-1] |= 0
					assert.Contains(t, vmFlags(t, unsafe.Add(m.Addr(), page)), "dc")
					assert.NotContains(t, vmFlags(t, unsafe.Add(m.Addr(), 2*page)), "dc")
					assert.Contains(t, vmFlags(t, unsafe.Add(m.Addr(), 3*page)), "dd")
					if c.Guard {
						assertFaults(t, m)
					}
				}
				require.NoError(t, m.Resize(2*page+5, shm.InPlace))
				assert.Equal(t, want[:2*page+5], m.Bytes())
				require.NoError(t, m.Resize(3*page, shm.MayMove))
				assert.Equal(t, want[:2*page], m.Bytes()[:2*page])
			})
		}
	})
}

func TestSplitMappingMoves(t *testing.T) {
	needLinux513(t)
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, reserve := range []int{0, 8 * page} {
			m := newMapping(t, sharing, 4*page,
				with(cfg, func(c *shm.Config) { c.Reserve = reserve }))
			dst := newMapping(t, shm.Shared, 6*page, cfg)
			want, was, there := pattern(m), m.Addr(), dst.Addr()
			require.NoError(t, m.Advise(page, page, unix.MADV_DONTFORK))
			require.NoError(t, dst.Advise(3*page, page, unix.MADV_DONTDUMP))
			require.NoError(t, m.MoveTo(dst))
			assert.Equal(t, there, m.Addr())
			assert.Equal(t, want, m.Bytes())
			assert.False(t, holds(uintptr(was), want[0]))
			assert.ErrorIs(t, dst.Close(), shm.ErrClosed)
			assert.Contains(t, vmFlags(t, unsafe.Add(there, page)), "dc")
			assert.NotContains(t, vmFlags(t, unsafe.Add(there, 3*page)), "dd")
		}
	})
}

// In place, a split mapping grows where there is room, and says ENOMEM where
// there is none.
func TestSplitMappingGrowsInPlace(t *testing.T) {
	for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero} {
		m := newMapping(t, shm.Private, 8*page, &shm.Config{Technique: technique})
		want, addr := pattern(m), m.Addr()
		require.NoError(t, m.Resize(4*page, shm.InPlace))
		require.NoError(t, m.Advise(page, page, unix.MADV_DONTFORK))
		switch err := m.Resize(6*page, shm.InPlace); err {
		case nil:
			assert.Equal(t, make([]byte, 2*page), m.Bytes()[4*page:])
		default: // another thread's memory came there
			assert.ErrorIs(t, err, unix.ENOMEM)
		}
		assert.Equal(t, addr, m.Addr())
		assert.Equal(t, want[:4*page], m.Bytes()[:4*page])
		assert.ErrorIs(t, m.Resize(min(1<<46, math.MaxInt), shm.InPlace), unix.ENOMEM)
		assert.Equal(t, want[:4*page], m.Bytes()[:4*page])
	}
}

// What Resize does where it moved a mapping and could not populate what it
// added.
func TestMoveBackIsToTheSamePlaceOrNot(t *testing.T) {
	for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero} {
		for _, taken := range []bool{false, true} {
			m, place := newMapping(t, shm.Private, 4*page, &shm.Config{Technique: technique}),
				newMapping(t, shm.Private, 4*page, nil)
			want, was := pattern(m), m.Addr()
			require.NoError(t, m.Advise(page, page, unix.MADV_DONTFORK))
			require.NoError(t, m.MoveTo(place))
			there := m.Addr()
			if taken { // by another thread, if not by this one
				_, err := shm.Mmap(was, page, unix.PROT_NONE,
					unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, -1, 0)
				assert.Contains(t, []error{nil, unix.EEXIST}, err)
				if err == nil {
					defer shm.Munmap(was, page)
				}
			}
			shm.MoveBack(m, was)
			if taken {
				assert.Equal(t, there, m.Addr())
			} else {
				assert.Contains(t, []unsafe.Pointer{was, there}, m.Addr())
			}
			assert.Equal(t, want, m.Bytes())
		}
	}
}

// A hole is no split: what was unmapped behind our back cannot be moved, and
// nothing else is then.
func TestResizeOverAHole(t *testing.T) {
	m := newMapping(t, shm.Private, 8*page,
		&shm.Config{Technique: shm.Anonymous, Reserve: 8 * page})
	want := pattern(m)
	hole := unsafe.Add(m.Addr(), 2*page)
	require.NoError(t, shm.Munmap(hole, page))
	err := m.Resize(16*page, shm.MayMove)
	_, mapErr := shm.Mmap(hole, page, unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, -1, 0)
	require.NoError(t, mapErr, "or another thread has it, and will lose it to Close")
	assert.ErrorIs(t, err, unix.EFAULT)
	assert.ErrorContains(t, err, "a part of the mapping is no longer mapped")
	assert.Equal(t, want[:2*page], m.Bytes()[:2*page])
	assert.Equal(t, want[3*page:], m.Bytes()[3*page:])
}

// Locked up to its length, a shared Memfd has two parts within its Reserve. It
// must leave that too.
func TestLockedMemfdLeavesItsReserve(t *testing.T) {
	m := newMapping(t, shm.Shared, 2*page, &shm.Config{Technique: shm.Memfd, Reserve: 8 * page})
	want := pattern(m)
	require.NoError(t, m.Lock())
	require.NoError(t, m.Resize(64*page, shm.MayMove))
	assert.Equal(t, want, m.Bytes()[:2*page])
	assert.Equal(t, 64*page, must(m.Stats()).Locked)
	assert.NoError(t, wait(t, forked(t, m, ctest.Object)))
	assert.Equal(t, 64*page, *must(shm.At[int](m, 0)))
}

// What Lock locked Unlock unlocks, also where the mapping was longer meanwhile.
func TestUnlockOfWhatShrankUnlocksAll(t *testing.T) {
	m := newMapping(t, shm.Shared, 8*page, &shm.Config{Technique: shm.Memfd})
	if err := m.Lock(); err != nil {
		t.Skip(err) // RLIMIT_MEMLOCK
	}
	require.NoError(t, m.Resize(page, shm.InPlace))
	require.NoError(t, m.Unlock())
	require.NoError(t, m.Resize(8*page, shm.InPlace))
	assert.NoError(t, m.Advise(0, 8*page, unix.MADV_REMOVE), "what is locked is not removed")
}

// What is locked and without access grows too, as it does by mremap alone.
func TestLockedMemoryWithoutAccessGrows(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, reserve := range []int{0, 4 * page, 64 * page} {
			if sharing == shm.Shared && cfg.Technique != shm.Memfd && reserve < 16*page {
				continue
			}
			m := newMapping(t, sharing, 2*page,
				with(cfg, func(c *shm.Config) { c.Reserve = reserve }))
			want := pattern(m)
			require.NoError(t, m.Lock())
			require.NoError(t, m.Protect(shm.NoAccess))
			for _, length := range []int{3 * page, 16 * page} {
				require.NoError(t, m.Resize(length, shm.MayMove))
				assert.Contains(t, vmFlags(t, unsafe.Add(m.Addr(), length-1)), "lo")
				assert.Regexp(t, "^---", mapsAt(uintptr(m.Addr())+uintptr(length)-1))
			}
			require.NoError(t, m.Protect(shm.ReadWrite))
			assert.Equal(t, want, m.Bytes()[:2*page])
			assert.Equal(t, make([]byte, 14*page), m.Bytes()[2*page:])
		}
	})
}

// vmFlags returns the flags that /proc/self/smaps has for an address.
func vmFlags(t *testing.T, addr unsafe.Pointer) string {
	t.Helper()
	for s, err := range procmaps.Smaps(0) {
		require.NoError(t, err)
		if s.Start <= uintptr(addr) && uintptr(addr) < s.End {
			return s.Flags
		}
	}
	require.Fail(t, "nothing is mapped there")
	return ""
}
