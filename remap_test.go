//go:build linux && cgo

package shm_test

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

// pattern fills a mapping with bytes that tell where they belong, and returns a
// copy of them.
func pattern(m *shm.Mapping) []byte {
	b := m.Bytes()
	for i := range b {
		b[i] = byte(1 + i%251)
	}
	return bytes.Clone(b)
}

// shrinksObject says whether a smaller mapping has less memory behind it too.
func shrinksObject(sharing shm.Sharing, cfg *shm.Config) bool {
	return sharing == shm.Shared && cfg.Technique == shm.Memfd
}

func TestResizeKeepsData(t *testing.T) {
	for _, move := range []shm.Move{shm.InPlace, shm.MayMove} {
		forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
			m := newMapping(t, sharing, 8*page, cfg)
			addr := m.Addr()
			want := pattern(m)

			for _, length := range []int{5 * page, odd, 1, 4000, page} { // smaller: never moves
				require.NoError(t, m.Resize(length, move))
				assert.Equal(t, length, m.Len())
				assert.Equal(t, addr, m.Addr())
				if shrinksObject(sharing, cfg) {
					clear(want[length:])
				}
				assert.Equal(t, want[:min(length, page)], m.Bytes()[:min(length, page)])
			}

			require.NoError(t, m.Resize(8*page, move)) // larger: into the room that it left behind
			if sharing == shm.Shared {
				assert.Equal(t, want, m.Bytes(), "the memory behind it stayed, but for a memfd's")
			} else {
				assert.Equal(t, want[:page], m.Bytes()[:page])
				assert.Equal(t, make([]byte, 7*page), m.Bytes()[page:])
			}
		})
	}
}

func TestResizeGrowsPrivateMemory(t *testing.T) {
	for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero, shm.Memfd} {
		m := newMapping(t, shm.Private, page, &shm.Config{Technique: technique})
		want := pattern(m)
		for length := page; length <= 64<<20; length *= 4 {
			require.NoError(t, m.Resize(length, shm.MayMove))
			b := m.Bytes()
			require.Len(t, b, length)
			assert.Equal(t, want, b[:len(want)])
			assert.Zero(t, bytes.Count(b[len(want):], []byte{1})+
				len(bytes.Trim(b[len(want):], "\x00")))
			want = append(want, 9)
			if len(want) < length {
				b[len(want)-1] = 9
			} else {
				want = want[:len(want)-1]
			}
		}
	}
}

func TestResizeInPlaceIsBlocked(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		if cfg.Technique == shm.Memfd {
			return // which keeps the room that it leaves behind
		}
		m := newMapping(t, sharing, 4*page, cfg)
		want := pattern(m)[:2*page]
		require.NoError(t, m.Resize(2*page, shm.InPlace))
		blocker := unsafe.Add(m.Addr(), 2*page)
		_, err := shm.Mmap(blocker, page, unix.PROT_READ,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, -1, 0)
		require.NoError(t, err)
		defer shm.Munmap(blocker, page)
		addr := m.Addr()

		err = m.Resize(3*page, shm.InPlace)
		assert.EqualError(t, err, fmt.Sprintf("shm: resize to %d bytes: mremap: cannot allocate memory",
			3*page))
		assert.ErrorIs(t, err, unix.ENOMEM)
		assert.Equal(t, addr, m.Addr())
		assert.Equal(t, want, m.Bytes())

		require.NoError(t, m.Resize(3*page, shm.MayMove))
		assert.NotEqual(t, addr, m.Addr())
		assert.Equal(t, want, m.Bytes()[:2*page])
		assert.False(t, holds(uintptr(addr), want[0]))
	})
}

func TestResizeRefusesSharedGrowth(t *testing.T) {
	for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero} {
		m := newMapping(t, shm.Shared, odd, &shm.Config{Technique: technique})
		want := pattern(m)
		for _, move := range []shm.Move{shm.InPlace, shm.MayMove} {
			for _, length := range []int{2*page + 1, 1 << 30, math.MaxInt} {
				assert.ErrorIs(t, m.Resize(length, move), shm.ErrGrowShared)
				assert.Equal(t, want, m.Bytes())
			}
		}
		assert.NoError(t, m.Resize(2*page, shm.InPlace), "the last page was there all along")
		m.Bytes()[2*page-1] = 1
		assert.NoError(t, m.Resize(1, shm.InPlace))
		assert.NoError(t, m.Resize(2*page, shm.MayMove))
		assert.Equal(t, want, m.Bytes()[:odd])
		assert.ErrorIs(t, m.Resize(2*page+1, shm.MayMove), shm.ErrGrowShared)
	}
	m := newMapping(t, shm.Shared, 100, nil)
	assert.EqualError(t, m.Resize(2*page, shm.MayMove), fmt.Sprintf("shm: resize to %d bytes: "+
		"the mapping was created with %d bytes: ", 2*page, page)+shm.ErrGrowShared.Error())
}

func TestResizeRefusedLeavesAllAsItWas(t *testing.T) {
	needWideInt(t)
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, 2*page, cfg)
		want, addr := pattern(m), m.Addr()
		for _, row := range []struct {
			length int
			move   shm.Move
		}{
			{0, shm.InPlace}, {0, shm.MayMove}, {-1, shm.MayMove}, {-page, shm.MayMove},
			{math.MinInt, shm.InPlace},
			{tooLarge, shm.MayMove}, {math.MaxInt, shm.MayMove}, {page, 2}, {page, 3}, {page, -1},
		} {
			var e *shm.Error
			err := m.Resize(row.length, row.move)
			if assert.ErrorAs(t, err, &e, "%+v", row) {
				assert.Equal(t, row.length, e.Length)
			}
			assert.Equal(t, addr, m.Addr())
			assert.Equal(t, want, m.Bytes())
		}
	})
}

// A byte for each page of this length would be 16 GiB. With 64 bits, it is a
// length that can be reserved, and that mremap(2) then refuses for most memory.
func TestResizeRefusedTakesNoMemory(t *testing.T) {
	needWideInt(t)
	const length = math.MaxInt & (1 << 46)
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, page, cfg)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = m.Resize(length, shm.MayMove)
		runtime.ReadMemStats(&after)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<30))
	})
}

func TestMoveTo(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, row := range []struct{ m, dst int }{
			{2 * page, 2 * page}, {100, 1}, {odd, 2 * page}, {page, 8 * page},
			{page + 1, 8*page - 1},
		} {
			for _, dstSharing := range []shm.Sharing{shm.Private, shm.Shared} {
				m, dst := newMapping(t, sharing, row.m, cfg),
					newMapping(t, dstSharing, row.dst, nil)
				want, from, to := pattern(m), uintptr(m.Addr()), uintptr(dst.Addr())
				there := pattern(dst)

				require.NoError(t, m.MoveTo(dst))
				assert.Equal(t, to, uintptr(m.Addr()))
				assert.Equal(t, want, m.Bytes())
				assert.Equal(t, sharing, m.Sharing())
				assert.False(t, holds(from, want[0]))
				assert.ErrorIs(t, dst.Close(), shm.ErrClosed)
				assert.Nil(t, dst.Bytes())
				for tail := to + uintptr((row.m+
					page-1)&^(page-1)); tail < to+uintptr(row.dst); tail += uintptr(page) {
					assert.False(t, holds(tail, there[tail-to]))
				}

				if sharing == shm.Shared && cfg.Technique != shm.Memfd {
					assert.ErrorIs(t, m.Resize(64*page, shm.MayMove), shm.ErrGrowShared)
				} else {
					assert.NoError(t, m.Resize(64*page, shm.MayMove))
				}
				require.NoError(t, m.Close())
			}
		}
	})
}

func TestMoveToRefused(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m, small, closed := newMapping(t, sharing, page+1, cfg), newMapping(t, sharing, page, cfg),
			newMapping(t, sharing, 2*page, cfg)
		require.NoError(t, closed.Close())
		want, wantSmall, addr := pattern(m), pattern(small), m.Addr()

		err := m.MoveTo(small)
		assert.ErrorIs(t, err, shm.ErrRange)
		assert.EqualError(t, err, fmt.Sprintf("shm: move %d bytes: the destination has %d bytes: "+
			"out of range (map it larger)", page+1, page))
		assert.ErrorIs(t, m.MoveTo(m), unix.EINVAL)
		assert.ErrorIs(t, m.MoveTo(closed), shm.ErrClosed)
		assert.ErrorIs(t, closed.MoveTo(m), shm.ErrClosed)
		assert.ErrorIs(t, m.MoveTo(nil), shm.ErrClosed)

		assert.Equal(t, addr, m.Addr())
		assert.Equal(t, want, m.Bytes())
		assert.Equal(t, wantSmall, small.Bytes())
	})
}

// A move that the kernel fails in its midst leaves both as they were.
func TestMoveToFailsInItsMidst(t *testing.T) {
	const mseal = 462 // Linux 6.10
	if !inOwnProcess(t, nil) {
		return
	}
	for sealed := range 3 {
		m, dst := must(shm.Map(shm.Private, 4*page, &shm.Config{Technique: shm.Anonymous})),
			newMapping(t, shm.Private, 6*page, nil)
		want, wantDst, was, there := pattern(m), pattern(dst), m.Addr(), dst.Addr()
		_, _, errno := unix.Syscall(mseal, uintptr(m.Addr())+uintptr(sealed*page), uintptr(page), 0)
		if errno == unix.ENOSYS {
			t.Skip("this kernel cannot seal memory")
		}
		require.Zero(t, errno)
		for range 2 {
			assert.ErrorIs(t, m.MoveTo(dst), unix.EPERM)
			assert.Equal(t, []unsafe.Pointer{was, there}, []unsafe.Pointer{m.Addr(), dst.Addr()})
			assert.Equal(t, want, m.Bytes())
			assert.Equal(t, wantDst, dst.Bytes())
		}
	}
}

func TestMoveToFromManyGoroutines(t *testing.T) {
	a, b := newMapping(t, shm.Private, page, nil), newMapping(t, shm.Shared, page, nil)
	for range 2000 {
		var wg sync.WaitGroup
		var errs [2]error
		wg.Add(2)
		go func() { defer wg.Done(); errs[0] = a.MoveTo(b) }()
		go func() { defer wg.Done(); errs[1] = b.MoveTo(a) }()
		wg.Wait()
		if errs[0] == nil { // one won, and closed the other
			assert.ErrorIs(t, errs[1], shm.ErrClosed)
			b = newMapping(t, shm.Shared, page, nil)
		} else {
			assert.ErrorIs(t, errs[0], shm.ErrClosed)
			assert.NoError(t, errs[1])
			a = newMapping(t, shm.Private, page, nil)
		}
	}
}
