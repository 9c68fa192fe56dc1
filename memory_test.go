//go:build linux && cgo

package shm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/hugepage"
	"forkshm.example/shm/internal/procmaps"
)

func objectLen(t *testing.T, m *shm.Mapping) int {
	t.Helper()
	n, err := m.ObjectLen()
	require.NoError(t, err)
	return n
}

func with(cfg *shm.Config, change func(*shm.Config)) *shm.Config {
	c := *cfg
	change(&c)
	return &c
}

func TestReserveGrowsInPlace(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		const reserve = 64 << 20
		for _, guard := range []bool{false, true} {
			m := newMapping(t, sharing, 100,
				with(cfg, func(c *shm.Config) { c.Reserve, c.Guard = reserve, guard }))
			addr := m.Addr()
			for _, length := range []int{100, page, odd, 3 * page, 1 << 20, reserve - 1, reserve,
				2 * page, 5 * page} {
				require.NoError(t, m.Resize(length, shm.InPlace))
				assert.Equal(t, addr, m.Addr())
				assert.Equal(t, length, m.Len())
				m.Bytes()[0], m.Bytes()[length-1] = 1, 2
			}
			b := m.Bytes()
			b[2*page] = 7
			require.NoError(t, m.Resize(page, shm.InPlace))
			require.NoError(t, m.Resize(5*page, shm.InPlace))
			if sharing == shm.Shared && cfg.Technique != shm.Memfd {
				assert.Equal(t, byte(7), m.Bytes()[2*page], "the memory behind it stayed")
			} else {
				assert.Equal(t, make([]byte, 4*page), m.Bytes()[page:])
			}
			require.NoError(t, m.Close())
		}
	})
}

func TestMayMoveLeavesTheReserve(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, guard := range []bool{false, true} {
			m := newMapping(t, sharing, 2*page,
				with(cfg, func(c *shm.Config) { c.Reserve, c.Guard = 4*page, guard }))
			want, addr := pattern(m), m.Addr()
			if sharing == shm.Shared && cfg.Technique != shm.Memfd {
				assert.ErrorIs(t, m.Resize(4*page+1, shm.MayMove), shm.ErrGrowShared)
				continue
			}
			if guard {
				assert.ErrorIs(t, m.Resize(4*page+1, shm.InPlace), unix.ENOMEM)
				assert.Equal(t, addr, m.Addr())
				assert.Equal(t, 2*page, m.Len())
			}
			for _, length := range []int{5*page - 1, 9 << 20, page + 1, 30 << 20} {
				require.NoError(t, m.Resize(length, shm.MayMove))
				b := m.Bytes()
				require.Len(t, b, length)
				want = want[:min(len(want), length)]
				assert.Equal(t, want, b[:len(want)])
				assert.Empty(t, bytes.Trim(b[min(length, wholePages(len(want))):], "\x00"))
				b[length-1] |= 0 // it is there
				if guard {
					assertFaults(t, m)
				}
			}
			require.NoError(t, m.Close())
		}
	})
}

// assertFaults asserts that the pages on each side are not to be had.
func assertFaults(t *testing.T, m *shm.Mapping) {
	t.Helper()
	for _, child := range []shm.ChildFunc{ctest.Under, ctest.Over} {
		p := forked(t, m, child)
		err := wait(t, p)
		var exit *shm.ExitError
		if assert.ErrorAs(t, err, &exit) {
			assert.Contains(t, []unix.Signal{unix.SIGSEGV, unix.SIGBUS}, exit.Status.Signal(),
				"SIGBUS where a shared memfd ends before its room")
		}
	}
}

func TestGuardFaultsOnEachSide(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, length := range []int{1, page, 3*page + 7} {
			m := newMapping(t, sharing, length, with(cfg, func(c *shm.Config) { c.Guard = true }))
			pattern(m)
			assertFaults(t, m)
		}
	})
}

// What the parent adds, children that were forked before it use, at their
// address, without a call.
func TestChildrenUsePagesAddedAfterTheyWereForked(t *testing.T) {
	children, last := 4, 256*page
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Memfd, Reserve: 256 << 20})
	addr := m.Addr()
	header := must(shm.Slice[uint64](m, 0, 2))
	header[0] = uint64(last)
	var procs []*shm.Process
	for range children {
		procs = append(procs, forked(t, m, ctest.Follow))
	}

	var growing sync.WaitGroup
	for i := range 4 {
		// Two goroutines may be about to grow the mapping: the later one would shrink it.
		growing.Add(1)
		go func() {
			defer growing.Done()
			for length := (2 + i) * page; length <= last; length += 4 * page {
				if err := m.Resize(length, shm.InPlace); err != nil {
					assert.ErrorIs(t, err, shm.ErrLive)
				}
			}
		}()
	}
	growing.Wait()
	require.NoError(t, m.Resize(last, shm.InPlace))
	for _, p := range procs {
		assert.NoError(t, wait(t, p))
	}
	assert.Equal(t, addr, m.Addr())
	assert.Equal(t, uint64(children*(last/page-1)), header[1])
	words := must(shm.Slice[uint64](m, 0, last/8))
	for off := page; off < last; off += page {
		require.Equal(t, uint64(children*off), words[off/8])
	}
}

func TestObjectLenIsKnownToAll(t *testing.T) {
	m := newMapping(t, shm.Shared, 100, &shm.Config{Technique: shm.Memfd})
	for _, length := range []int{100, 8, odd, 1 << 20, 40 << 20, page} {
		require.NoError(t, m.Resize(length, shm.MayMove))
		assert.Equal(t, length, objectLen(t, m))
		assert.NoError(t, wait(t, forked(t, m, ctest.Object)))
		assert.Equal(t, length, *must(shm.At[int](m, 0)))
	}
	for _, other := range []*shm.Mapping{
		newMapping(t, shm.Private, page, &shm.Config{Technique: shm.Memfd}),
		newMapping(t, shm.Shared, page, nil),
	} {
		_, err := other.ObjectLen()
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		_, err = other.File()
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		assert.ErrorIs(t, other.Truncate(1), errors.ErrUnsupported)
		assert.ErrorIs(t, other.Seal(unix.F_SEAL_SHRINK), errors.ErrUnsupported)
	}
}

func TestShrinkingUnderALiveChildIsRefused(t *testing.T) {
	m := newMapping(t, shm.Shared, 4*page, &shm.Config{Technique: shm.Memfd})
	want := pattern(m)
	clear(want[:4])
	clear(m.Bytes()[:4])
	p := forked(t, m, ctest.Until)
	assert.ErrorIs(t, m.Resize(page, shm.InPlace), shm.ErrLive)
	assert.Equal(t, want, m.Bytes())
	assert.Equal(t, 4*page, objectLen(t, m))
	assert.NoError(t, m.Resize(5*page, shm.MayMove), "growing hurts no one")
	assert.ErrorIs(t, m.Truncate(6*page), shm.ErrRange)
	require.NoError(t, m.Truncate(2*page))
	assert.Equal(t, 2*page, objectLen(t, m))
	assert.Equal(t, want[:2*page], m.Bytes())
	setInt(m, 3)
	assert.Equal(t, exited(p, 3), wait(t, p))
	assert.NoError(t, m.Resize(page, shm.InPlace))
}

func TestSealedObjectDoesNotShrink(t *testing.T) {
	m := newMapping(t, shm.Shared, 4*page, &shm.Config{Technique: shm.Memfd})
	require.NoError(t, m.Seal(unix.F_SEAL_SHRINK))
	assert.ErrorIs(t, m.Resize(page, shm.InPlace), unix.EPERM)
	assert.Equal(t, 4*page, m.Len())
	require.NoError(t, m.Resize(8*page, shm.MayMove))
	require.NoError(t, m.Seal(unix.F_SEAL_GROW))
	assert.ErrorIs(t, m.Resize(9*page, shm.MayMove), unix.EPERM)
	assert.Equal(t, 8*page, m.Len())
}

func TestFileIsMappedElsewhere(t *testing.T) {
	m := newMapping(t, shm.Shared, odd, &shm.Config{Technique: shm.Memfd})
	want := pattern(m)
	f, err := m.File()
	require.NoError(t, err)
	there, err := shm.MapFile(f)
	require.NoError(t, err)
	defer there.Close()
	require.NoError(t, f.Close())
	assert.Equal(t, want, there.Bytes())
	there.Bytes()[0] = 99
	assert.Equal(t, byte(99), m.Bytes()[0])

	require.NoError(t, m.Resize(3*page, shm.MayMove))
	assert.Equal(t, 3*page, objectLen(t, there))
	require.NoError(t, there.Resize(objectLen(t, there), shm.MayMove))
	m.Bytes()[3*page-1] = 5
	assert.Equal(t, byte(5), there.Bytes()[3*page-1])
	require.NoError(t, m.Close())
	assert.Equal(t, byte(5), there.Bytes()[3*page-1])

	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = shm.MapFile(r)
	assert.ErrorIs(t, err, unix.EINVAL)
	gone := must(os.Open(os.DevNull))
	require.NoError(t, gone.Close())
	_, err = shm.MapFile(gone)
	assert.ErrorIs(t, err, unix.EBADF)
}

// What fails to grow, by whatever the machine refuses, is as it was.
func TestFailedResizeLeavesAllAsItWas(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	limited := func(t *testing.T, resource int, cur uint64, body func()) {
		var before unix.Rlimit
		require.NoError(t, unix.Getrlimit(resource, &before))
		limit := before
		limit.Cur = cur
		require.NoError(t, unix.Setrlimit(resource, &limit))
		defer func() { require.NoError(t, unix.Setrlimit(resource, &before)) }()
		body()
	}
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		if sharing == shm.Shared && cfg.Technique != shm.Memfd {
			return // it does not grow
		}
		for _, change := range []func(*shm.Config){
			func(c *shm.Config) {}, func(c *shm.Config) { c.Reserve = 4 * page },
			func(c *shm.Config) { c.Guard = true },
			func(c *shm.Config) { c.Populate = true },
		} {
			m := newMapping(t, sharing, 2*page, with(cfg, change))
			want, addr := pattern(m), m.Addr()
			same := func() {
				t.Helper()
				assert.Equal(t, addr, m.Addr())
				assert.Equal(t, want, m.Bytes())
				if sharing == shm.Shared {
					assert.Equal(t, 2*page, objectLen(t, m))
				}
			}
			if cfg.Technique == shm.Memfd {
				limited(t, unix.RLIMIT_FSIZE, uint64(8*page), func() {
					assert.ErrorIs(t, m.Resize(9*page, shm.MayMove), unix.EFBIG)
				})
				same()
			}
			limited(t, unix.RLIMIT_AS, uint64(addressSpace(t))+256<<20, func() {
				assert.ErrorIs(t, m.Resize(1<<30, shm.MayMove), unix.ENOMEM)
			})
			same()
			require.NoError(t, m.Resize(3*page, shm.MayMove), "it may try again")
		}
	})
}

// smallFileSystem returns a tmpfs of 64 KiB, in a process of the test's own, or
// "".
func smallFileSystem(t *testing.T) string {
	t.Helper()
	attr := &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if os.Getuid() != 0 {
		attr.Unshareflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	if !inOwnProcess(t, attr) {
		return ""
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", 16*page)); err != nil {
		t.Skipf("this machine allows no mounts in a namespace of one's own: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, 0)) })
	return dir
}

// objectOnSmallFileSystem maps an object of a page there; nil where the test
// runs in a process of its own.
func objectOnSmallFileSystem(t *testing.T) (*os.File, *shm.Mapping) {
	t.Helper()
	dir := smallFileSystem(t)
	if dir == "" {
		return nil, nil
	}
	f := must(os.Create(filepath.Join(dir, "object")))
	t.Cleanup(func() { f.Close() })
	require.NoError(t, f.Truncate(int64(page)))
	m, err := shm.MapFile(f)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return f, m
}

func TestFullFileSystemIsAnErrorOfResize(t *testing.T) {
	_, m := objectOnSmallFileSystem(t)
	if m == nil {
		return
	}
	want, addr := pattern(m), m.Addr()
	assert.ErrorIs(t, m.Resize(256*page, shm.MayMove), unix.ENOSPC)
	assert.Equal(t, addr, m.Addr())
	assert.Equal(t, want, m.Bytes())
	assert.Equal(t, page, objectLen(t, m))
	assert.NoError(t, m.Resize(8*page, shm.MayMove))
}

func TestLockedMemoryGrowsLockedOrNotAtAll(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	needSetuid(t)
	limit := unix.Rlimit{Cur: uint64(16 * page), Max: uint64(16 * page)}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit))
	if os.Getuid() == 0 { // whom no limit holds
		require.NoError(t, syscall.Setuid(65534))
	}
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, reserve := range []int{0, 10 * page, 64 * page} {
			m := newMapping(t, sharing, 8*page,
				with(cfg, func(c *shm.Config) { c.Reserve = reserve }))
			want, addr := pattern(m), m.Addr()
			require.NoError(t, m.Lock())
			assert.Equal(t, 8*page, must(m.Stats()).Locked)
			if sharing == shm.Private || reserve > 12*page || cfg.Technique == shm.Memfd {
				assert.Error(t, m.Resize(32*page, shm.MayMove))
				assert.Equal(t, want, m.Bytes())
				assert.Equal(t, addr, m.Addr())
				if shrinksObject(sharing, cfg) {
					assert.Equal(t, 8*page, objectLen(t, m))
				}
				assert.Equal(t, 8*page, must(m.Stats()).Locked)
				require.NoError(t, m.Resize(12*page, shm.MayMove))
				assert.Equal(t, 12*page, must(m.Stats()).Locked)
				require.NoError(t, m.Resize(4*page, shm.MayMove))
			}
			require.NoError(t, m.Unlock())
			assert.Zero(t, must(m.Stats()).Locked)
			require.NoError(t, m.Close())
			big := newMapping(t, sharing, 20*page, cfg)
			assert.ErrorIs(t, big.Lock(), unix.ENOMEM)
			assert.Zero(t, must(big.Stats()).Locked)
			require.NoError(t, big.Close())
		}
	})
}

func TestProtectHolds(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, reserve := range []int{0, 8 * page} {
			m := newMapping(t, sharing, 2*page,
				with(cfg, func(c *shm.Config) { c.Reserve = reserve }))
			want := pattern(m)
			signal := func(child shm.ChildFunc) unix.Signal {
				var exit *shm.ExitError
				if errors.As(wait(t, forked(t, m, child)), &exit) && exit.Status.Signaled() {
					return exit.Status.Signal()
				}
				return 0
			}
			require.NoError(t, m.Protect(shm.ReadOnly))
			assert.Equal(t, want, m.Bytes())
			assert.Equal(t, unix.SIGSEGV, signal(ctest.Store))
			assert.Zero(t, signal(ctest.Last))
			if sharing == shm.Private || reserve > 0 {
				require.NoError(t, m.Resize(3*page, shm.MayMove))
				assert.Equal(t, unix.SIGSEGV, signal(ctest.Store), "what is added is protected too")
			}
			require.NoError(t, m.Protect(shm.NoAccess))
			assert.Equal(t, unix.SIGSEGV, signal(ctest.Last))
			require.NoError(t, m.Protect(shm.ReadWrite))
			assert.Equal(t, want, m.Bytes()[:2*page])
			assert.Zero(t, signal(ctest.Store))
			for _, bad := range []shm.Protection{-1, 3} {
				assert.ErrorIs(t, m.Protect(bad), unix.EINVAL)
			}
		}
	})
}

func TestAdvise(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, 4*page, cfg)
		want := pattern(m)
		require.NoError(t, m.Advise(page, page, unix.MADV_DONTNEED))
		if sharing == shm.Private {
			clear(want[page : 2*page])
		}
		assert.Equal(t, want, m.Bytes())
		for _, row := range []struct {
			off, length, advice int
			want                error
		}{
			{-page, page, unix.MADV_NORMAL, shm.ErrRange},
			{0, 4*page + 1, unix.MADV_NORMAL, shm.ErrRange},
			{page, math.MaxInt, unix.MADV_NORMAL, shm.ErrRange},
			{0, -1, unix.MADV_NORMAL, shm.ErrRange},
			{1, 1, unix.MADV_NORMAL, shm.ErrAlign},
			{0, page, 12345, unix.EINVAL},
		} {
			assert.ErrorIs(t, m.Advise(row.off, row.length, row.advice), row.want, "%+v", row)
		}
		require.NoError(t, m.Advise(0, m.Len(), unix.MADV_DONTFORK))
		p := forked(t, m, ctest.Last)
		assert.ErrorContains(t, wait2(t, p), "signal: segmentation fault")
		require.NoError(t, m.Advise(0, m.Len(), unix.MADV_DOFORK))
	})
}

// wait2 is wait without the core-dump bit, which is the machine's affair.
func wait2(t *testing.T, p *shm.Process) error {
	err := wait(t, p)
	var exit *shm.ExitError
	if errors.As(err, &exit) {
		exit.Status &^= 0x80
	}
	return err
}

func TestStatsAreTheMappingsOwn(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		length := 64 * page
		first, m, third := newMapping(t, sharing, length, cfg), newMapping(t, sharing, length, cfg),
			newMapping(t, sharing, length, cfg)
		pattern(first)
		pattern(third)
		before := must(m.Stats())
		assert.Equal(t, shm.Stats{Mapped: length}, before)
		for i := range 10 {
			m.Bytes()[i*page] = 1
		}
		require.NoError(t, m.Advise(0, m.Len(), unix.MADV_NOHUGEPAGE))
		got := must(m.Stats())
		assert.Equal(t, 10*page, got.Resident)
		if !(sharing == shm.Private && cfg.Technique == shm.Memfd) {
			assert.Equal(t, 10*page, got.Proportional)
		}
		assert.Equal(t, 10*page, got.PrivateDirty)
		pattern(m)
		assert.Equal(t, length, must(m.Stats()).Resident)
	})
}

func TestPopulateFaultsEveryPageIn(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, reserve := range []int{0, 1 << 20} {
			m := newMapping(t, sharing, odd,
				with(cfg, func(c *shm.Config) { c.Populate, c.Reserve = true, reserve }))
			assert.Equal(t, 2*page, must(m.Stats()).Resident)
			if sharing == shm.Private || reserve > 0 {
				require.NoError(t, m.Resize(64*page, shm.MayMove))
				assert.Equal(t, 64*page, must(m.Stats()).Resident)
			}
		}
	})
}

func TestNameIsShownWhereTheKernelCan(t *testing.T) {
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Memfd, Name: "ring"})
	assert.Equal(t, "rw-s /memfd:ring (deleted)", mapsAt(uintptr(m.Addr())))
	for _, name := range []string{"ring", strings.Repeat("x", 1000), "a\x00b", "[$]"} {
		forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
			m := newMapping(t, sharing, page, with(cfg, func(c *shm.Config) { c.Name = name }))
			pattern(m)
			require.NoError(t, m.Resize(1, shm.InPlace))
		})
	}
}

func TestHugeTransparent(t *testing.T) {
	huge := hugepage.Transparent()
	length := 2 * huge
	m := newMapping(t, shm.Private, length,
		&shm.Config{Technique: shm.Anonymous, Huge: shm.HugeTransparent})
	assert.Zero(t, uintptr(m.Addr())%uintptr(huge))
	assert.Equal(t, shm.HugeTransparent, m.Huge())
	want := pattern(m)
	assert.True(t, eventually(func() bool { // at another time the kernel may have none to give
		other := newMapping(t, shm.Private, length,
			&shm.Config{Technique: shm.Anonymous, Huge: shm.HugeTransparent})
		defer other.Close()
		pattern(other)
		return must(other.Stats()).Huge > 0 || !hasHugePage(t)
	}))
	require.NoError(t, m.Resize(2*length, shm.MayMove))
	assert.Zero(t, uintptr(m.Addr())%uintptr(huge))
	assert.Equal(t, want, m.Bytes()[:length])
	require.NoError(t, m.Resize(page, shm.InPlace))
	assert.Equal(t, want[:page], m.Bytes())
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, huge+1,
			with(cfg, func(c *shm.Config) { c.Huge = shm.HugeTransparent }))
		assert.Zero(t, uintptr(m.Addr())%uintptr(huge))
		pattern(m)
		assert.NoError(t, wait(t, forked(t, m, ctest.FirstLast)))
	})
}

// Where memory is made, a technique that it does not know is an error, and not taken for another one.
func TestEachPlaceThatMakesMemoryRefusesOtherTechniques(t *testing.T) {
	for _, sharing := range []shm.Sharing{shm.Private, shm.Shared} {
		assert.ErrorIs(t, shm.MapReserved(shm.Memfd+1, sharing, 4096), unix.EINVAL)
		assert.ErrorIs(t, shm.MapHuge(shm.Memfd+1, sharing, 4096), unix.EINVAL)
	}
}

// hasHugePage says whether the kernel gives a huge page to who maps and advises as C does.
func hasHugePage(t *testing.T) bool {
	t.Helper()
	length := 2 * hugepage.Transparent()
	p, err := shm.Mmap(nil, length, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
	require.NoError(t, err)
	defer shm.Munmap(p, length)
	b := unsafe.Slice((*byte)(p), length)
	if unix.Madvise(b, unix.MADV_HUGEPAGE) != nil { // a kernel without them
		return false
	}
	fill(b, 1)
	for s, err := range procmaps.Smaps(0) {
		require.NoError(t, err)
		if s.Start <= uintptr(p) && uintptr(p) < s.End {
			return s.AnonHugePages > 0
		}
	}
	return false
}

func TestHugeExplicitOrTheUsualPages(t *testing.T) {
	huge := hugepage.Explicit()
	for _, technique := range []shm.Technique{shm.Anonymous, shm.Memfd} {
		for _, sharing := range []shm.Sharing{shm.Private, shm.Shared} {
			m := newMapping(t, sharing, odd,
				&shm.Config{Technique: technique, Huge: shm.HugeExplicit})
			assert.Equal(t, odd, m.Len())
			want := pattern(m)
			stats := must(m.Stats())
			t.Logf("%v, %v: %+v", sharing, technique, stats)
			switch m.Huge() {
			case shm.HugeExplicit:
				assert.Equal(t, huge, stats.Mapped)
				assert.Equal(t, huge, stats.Huge)
				require.NoError(t, m.Resize(huge, shm.InPlace))
				assert.ErrorIs(t, m.MoveTo(newMapping(t, sharing, 2*huge, nil)),
					errors.ErrUnsupported)
				if sharing == shm.Private {
					assert.ErrorIs(t, m.Resize(huge+1, shm.MayMove), errors.ErrUnsupported)
				}
			case shm.HugeNone:
				assert.Equal(t, 2*page, stats.Mapped)
				assert.Zero(t, stats.Huge)
			default:
				assert.Fail(t, "neither", "%v", m.Huge())
			}
			assert.Equal(t, want, m.Bytes()[:odd])
			assert.NoError(t, wait(t, forked(t, m, ctest.FirstLast)))
			assert.NoError(t, m.Close())
		}
	}
}

func TestWriteToAndReadFrom(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, odd, cfg)
		want := pattern(m)
		f := must(os.Create(filepath.Join(t.TempDir(), "dump")))
		defer f.Close()
		n, err := io.Copy(f, io.Reader(readerOnly{m}))
		require.NoError(t, err)
		assert.Equal(t, int64(odd), n)
		assert.Equal(t, want, must(os.ReadFile(f.Name())))

		clear(m.Bytes())
		must(f.Seek(0, io.SeekStart))
		n, err = m.ReadFrom(f)
		require.NoError(t, err)
		assert.Equal(t, int64(odd), n)
		assert.Equal(t, want, m.Bytes())

		n, err = m.ReadFrom(strings.NewReader("short"))
		require.NoError(t, err)
		assert.Equal(t, int64(5), n)
		assert.Equal(t, append([]byte("short"), want[5:]...), m.Bytes())
		n, err = m.ReadFrom(strings.NewReader(strings.Repeat("y", odd+1)))
		assert.ErrorIs(t, err, shm.ErrRange)
		assert.Equal(t, int64(odd), n)
		n, err = m.WriteTo(brokenWriter{})
		assert.ErrorIs(t, err, io.ErrClosedPipe)
		assert.Equal(t, int64(3), n)
	})
}

// Of their own memory's faults, WriteTo and ReadFrom make errors too.
func TestWriteToAndReadFromOfMemoryThatFails(t *testing.T) {
	for _, how := range faulty {
		t.Run(how.name, func(t *testing.T) {
			m := how.make(t)
			bad := unsafe.Add(m.Addr(), 2*page)
			for _, w := range []io.Writer{io.Discard, pipe(t)} {
				n, err := m.WriteTo(w)
				assertFault(t, err, "write out", bad)
				assert.EqualValues(t, 2*page, n)
			}
			n, err := m.ReadFrom(iotest.OneByteReader(bytes.NewReader(make([]byte, 4*page))))
			assertFault(t, err, "read in", bad)
			assert.EqualValues(t, 2*page, n)
			f := must(os.Open("/dev/zero"))
			defer f.Close()
			n, err = m.ReadFrom(f)
			assertFault(t, err, "read in", bad)
			assert.EqualValues(t, 2*page, n)
			n, err = m.ReadFrom(strings.NewReader("short"))
			assert.NoError(t, err)
			assert.EqualValues(t, 5, n)
			assert.Equal(t, "short", string(m.Bytes()[:5]))
		})
	}
	m := newMapping(t, shm.Private, page, nil)
	for _, count := range []int{-1, page + 1, math.MaxInt, math.MinInt} {
		_, err := m.ReadFrom(readerFunc(func([]byte) (int, error) { return count, nil }))
		assert.ErrorContains(t, err, fmt.Sprintf("the reader returned a count of %d", count))
		_, err = m.WriteTo(readerFunc(func([]byte) (int, error) { return count, nil }))
		assert.ErrorContains(t, err, fmt.Sprintf("the writer returned a count of %d", count))
	}
	boom := errors.New("boom")
	n, err := m.ReadFrom(io.MultiReader(strings.NewReader("some"), iotest.ErrReader(boom)))
	assert.ErrorIs(t, err, boom)
	assert.EqualValues(t, 4, n)
	n, err = m.ReadFrom(io.MultiReader(bytes.NewReader(make([]byte, page)), iotest.ErrReader(boom)))
	assert.ErrorIs(t, err, boom)
	assert.EqualValues(t, page, n)
}

// A child's C knows the object's length at every address of the mapping,
// whatever became of the mapping and whatever the child was told to close.
func TestObjectLenInChildren(t *testing.T) {
	closing := &shm.ForkConfig{CloseFDs: true}
	mapped := func(length, reserve int) *shm.Mapping {
		return newMapping(t, shm.Shared, length,
			&shm.Config{Technique: shm.Memfd, Reserve: reserve})
	}
	check := func(m *shm.Mapping, want int) {
		t.Helper()
		for _, cfg := range []*shm.ForkConfig{nil, closing,
			{Lean: true, CloseFDs: true, KeepFDs: []int{0}}} {
			pool := must(shm.NewPool(m, 1, &shm.PoolConfig{Fork: cfgOf(cfg)}))
			for _, off := range []int{0, 8, page, m.Len() - 8} {
				result, err := pool.Call(t.Context(), ctest.Object, off, 8)
				require.NoError(t, err)
				require.Zero(t, result)
				assert.EqualValues(t, want, *must(shm.At[uint64](m, off)), "at %d", off)
			}
			require.NoError(t, pool.Close())
			assert.NoError(t, wait(t, forkedWith(t, m, ctest.Object, cfg)))
			assert.EqualValues(t, want, *must(shm.At[uint64](m, 0)))
		}
	}
	m := mapped(2*page, 8*page)
	check(m, 2*page)
	require.NoError(t, m.Resize(5*page, shm.InPlace))
	check(m, 5*page)
	require.NoError(t, m.Resize(64*page, shm.MayMove))
	check(m, 64*page)
	require.NoError(t, m.Truncate(3*page+8))
	check(m, 3*page+8)
	require.NoError(t, m.MoveTo(newMapping(t, shm.Private, 9*page, nil)))
	check(m, 3*page+8)

	// A pool's child that was there before the object grew, whoever grew it.
	m = mapped(2*page, 8*page)
	pool := must(shm.NewPool(m, 1, &shm.PoolConfig{Fork: *closing}))
	defer pool.Close()
	for _, length := range []int{4 * page, 6 * page, 8 * page} {
		if length == 6*page {
			f := must(m.File())
			require.NoError(t, f.Truncate(int64(length)))
			require.NoError(t, f.Close())
		} else {
			require.NoError(t, m.Resize(length, shm.InPlace))
		}
		must(pool.Call(t.Context(), ctest.Object, page, 8))
		assert.EqualValues(t, length, *must(shm.At[uint64](m, page)))
	}
	f := must(m.File())
	defer f.Close()
	same := must(shm.MapFile(f))
	defer same.Close()
	check(same, 8*page)

	var many []*shm.Mapping // more than the first table has room for
	for i := range 120 {
		many = append(many, mapped((i+2)*page, 0))
	}
	for i, m := range many {
		if i%40 == 0 || i == len(many)-1 {
			check(m, (i+2)*page)
		}
		require.NoError(t, m.Close())
	}
	private := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	assert.NoError(t, wait(t, forked(t, private, ctest.Object)))
	assert.Zero(t, private.Bytes()[0], "there is no object")
}

// What a child keeps to know the length by does not let it harm the object.
func TestObjectLenDescriptorIsHarmless(t *testing.T) {
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Memfd})
	f := must(m.File())
	defer f.Close()
	path := pathDescriptors(t, f)
	require.Len(t, path, 1)
	assert.ErrorIs(t, unix.Ftruncate(path[0], 0), unix.EBADF)
	_, err := unix.FcntlInt(uintptr(path[0]), unix.F_ADD_SEALS, unix.F_SEAL_GROW)
	assert.ErrorIs(t, err, unix.EBADF)
	_, err = unix.Pwrite(path[0], []byte{1}, 0)
	assert.ErrorIs(t, err, unix.EBADF)
	require.NoError(t, m.Close())
	assert.Empty(t, pathDescriptors(t, f))
}

// pathDescriptors returns the descriptors that only name a file (O_PATH).
func pathDescriptors(t *testing.T, f *os.File) (fds []int) {
	t.Helper()
	file := must(f.Stat())
	for _, e := range must(os.ReadDir("/proc/self/fd")) {
		fd := must(strconv.Atoi(e.Name()))
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		named, statErr := os.Stat("/proc/self/fd/" + e.Name())
		if err == nil && statErr == nil && flags&unix.O_PATH != 0 && os.SameFile(file, named) {
			fds = append(fds, fd)
		}
	}
	return fds
}

func cfgOf(cfg *shm.ForkConfig) shm.ForkConfig {
	if cfg == nil {
		return shm.ForkConfig{}
	}
	return *cfg
}

// pipe returns the writing end of a pipe that is read from all the time.
func pipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, r)
	}()
	t.Cleanup(func() {
		w.Close()
		<-done
		r.Close()
	})
	return w
}

// While another's Write or Read runs, its mapping can be used in every way, by
// it and by others.
func TestNoLockIsHeldWhileOthersCodeRuns(t *testing.T) {
	change := func(m *shm.Mapping) {
		done := make(chan struct{})
		go func() { // in a goroutine of its own, and waited for
			defer close(done)
			assert.NoError(t, m.Resize(4*page, shm.MayMove))
			assert.NoError(t, m.Protect(shm.ReadWrite))
			assert.Equal(t, 4*page, m.Len())
		}()
		<-done
		assert.NoError(t, m.Close())
	}
	m := newMapping(t, shm.Private, 200*page, nil)
	n, err := m.WriteTo(readerFunc(func(p []byte) (int, error) { change(m); return len(p), nil }))
	assert.ErrorIs(t, err, shm.ErrClosed)
	assert.Positive(t, n)
	m = newMapping(t, shm.Private, 200*page, nil)
	n, err = m.ReadFrom(readerFunc(func(p []byte) (int, error) { change(m); return len(p), nil }))
	assert.ErrorIs(t, err, shm.ErrClosed)
	assert.Zero(t, n)

	m = newMapping(t, shm.Private, 200*page, nil)
	n, err = m.WriteTo(readerFunc(func(p []byte) (int, error) {
		return len(p),
			m.Resize(page, shm.InPlace)
	}))
	assert.NoError(t, err, "what is gone is not written")
	assert.Less(t, n, int64(200*page))

	// A reader that has nothing holds nobody up.
	m = newMapping(t, shm.Private, page, nil)
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := m.ReadFrom(r)
		done <- err
	}()
	must(w.Write([]byte("x"))) // it reads
	assert.NoError(t, m.Close())
	assert.Zero(t, m.Len())
	require.NoError(t, w.Close())
	assert.ErrorIs(t, <-done, shm.ErrClosed)
}

type readerOnly struct{ *shm.Mapping }

func (readerOnly) Read([]byte) (int, error) { panic("io.Copy is to use WriteTo") }

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 3, io.ErrClosedPipe }

// Stats makes a mapping unlike its neighbours for a moment. What advice it had
// must be there afterwards.
func TestStatsLeaveAdviceAsItWas(t *testing.T) {
	n := 4 * page
	advice := []int{unix.MADV_DODUMP, unix.MADV_DONTDUMP}
	for _, row := range []struct{ own, around []int }{
		{[]int{1, 1, 1, 1}, []int{1, 1}},
		{[]int{1, 1, 1, 1}, []int{0, 0}},
		{[]int{0, 0, 0, 0}, []int{1, 1}},
		{[]int{0, 0, 0, 0}, []int{0, 0}},
		{[]int{1, 0, 0, 1}, []int{1, 1}},
		{[]int{1, 0, 1, 0}, []int{1, 0}},
		{[]int{0, 1, 1, 0}, []int{0, 0}},
	} {
		m := newMapping(t, shm.Private, n, &shm.Config{Technique: shm.Anonymous, Guard: true})
		// In place of the pages that guard it: memory that is like its own.
		for i, at := range []unsafe.Pointer{unsafe.Add(m.Addr(), -page), unsafe.Add(m.Addr(), n)} {
			require.NoError(t,
				unix.Mprotect(unsafe.Slice((*byte)(at), page), unix.PROT_READ|unix.PROT_WRITE))
			require.NoError(t, unix.Madvise(unsafe.Slice((*byte)(at), page), advice[row.around[i]]))
			*(*byte)(at) = 1
		}
		for i, dump := range row.own {
			require.NoError(t, m.Advise(i*page, page, advice[dump]))
		}
		pattern(m)
		stats, err := m.Stats()
		require.NoError(t, err, "%+v", row)
		assert.Equal(t, n, stats.Resident, "%+v", row)
		for i, dump := range append(append(row.around[:1:1], row.own...), row.around[1]) {
			assert.Equal(t, dump == 1,
				strings.Contains(vmFlags(t, unsafe.Add(m.Addr(), (i-1)*page)), "dd"),
				"%+v, page %d", row, i-1)
		}
	}
}

// Memory that mlockall(2) locked is given back and reads zero again all the
// same.
func TestShrinkingUnderMlockall(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	m := newMapping(t, shm.Private, 8*page, &shm.Config{Reserve: 8 * page})
	want := pattern(m)
	if err := unix.Mlockall(unix.MCL_CURRENT); err != nil {
		t.Skipf("this machine does not let us lock so much: %v", err)
	}
	require.NoError(t, m.Resize(2*page, shm.InPlace))
	require.NoError(t, m.Resize(8*page, shm.InPlace))
	assert.Equal(t, want[:2*page], m.Bytes()[:2*page])
	assert.Equal(t, make([]byte, 6*page), m.Bytes()[2*page:])
}

// What another process made longer without memory behind it is allocated by
// Resize, or nothing is.
func TestFollowingASparseObjectOnAFullFileSystem(t *testing.T) {
	f, m := objectOnSmallFileSystem(t)
	if m == nil {
		return
	}
	want, addr := pattern(m), m.Addr()
	require.NoError(t, f.Truncate(int64(256*page)))
	assert.ErrorIs(t, m.Resize(256*page, shm.MayMove), unix.ENOSPC)
	assert.Equal(t, addr, m.Addr())
	assert.Equal(t, want, m.Bytes())
	assert.Equal(t, 256*page, objectLen(t, m), "the other's affair")
	require.NoError(t, m.Resize(8*page, shm.MayMove))
	m.Bytes()[8*page-1] = 1
}

func TestMapFileOfOddFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(name, bytes.Repeat([]byte("x"), odd), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	fd := must(unix.MemfdCreate("sealed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING))
	require.NoError(t, unix.Ftruncate(fd, int64(page)))
	must(unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE))
	memfd := os.NewFile(uintptr(fd), "sealed")
	defer memfd.Close()
	for _, row := range []struct {
		name string
		open func() (*os.File, error)
		want error
	}{
		{"ReadOnly", func() (*os.File, error) { return os.Open(name) }, unix.EACCES},
		{"WriteOnly", func() (*os.File, error) { return os.OpenFile(name, os.O_WRONLY, 0) },
			unix.EACCES},
		{"Empty",
			func() (*os.File,
				error) {
				return os.OpenFile(filepath.Join(dir, "empty"), os.O_RDWR, 0)
			}, unix.EINVAL},
		{"Folder", func() (*os.File, error) { return os.Open(dir) }, unix.EACCES},
		{"Null", func() (*os.File, error) { return os.OpenFile("/dev/null", os.O_RDWR, 0) },
			unix.EINVAL},
		{"Zero", func() (*os.File, error) { return os.OpenFile("/dev/zero", os.O_RDWR, 0) },
			unix.EINVAL},
		{"Sealed",
			func() (*os.File, error) {
				return os.NewFile(uintptr(must(unix.Dup(fd))), "sealed"),
					nil
			}, unix.EPERM},
		{"Nil", func() (*os.File, error) { return nil, nil }, unix.EBADF},
	} {
		f, err := row.open()
		require.NoError(t, err, row.name)
		m, err := shm.MapFile(f)
		assert.Nil(t, m, row.name)
		assert.ErrorIs(t, err, row.want, row.name)
		if f != nil {
			require.NoError(t, f.Close())
		}
	}

	f := must(os.OpenFile(name, os.O_RDWR, 0)) // a regular file does as well
	m, err := shm.MapFile(f)
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, f.Close())
	require.NoError(t, m.Resize(3*page, shm.MayMove))
	m.Bytes()[3*page-1] = 'y'
	assert.Equal(t, byte('y'), must(os.ReadFile(name))[3*page-1])
	require.NoError(t, m.Resize(10, shm.InPlace))
	assert.Equal(t, "xxxxxxxxxx", string(must(os.ReadFile(name))))
}

// In what MAP_HUGETLB gave the memory behind a mapping is longer than it. All
// of it is to be meant.
func TestHugeExplicitIsWhole(t *testing.T) {
	for _, sharing := range []shm.Sharing{shm.Private, shm.Shared} {
		m := newMapping(t, sharing, odd,
			&shm.Config{Technique: shm.Anonymous, Huge: shm.HugeExplicit})
		want := pattern(m)
		err := m.Advise(0, odd, unix.MADV_DONTNEED)
		if !errors.Is(err, errors.ErrUnsupported) { // before Linux 5.18
			require.NoError(t, err)
			if sharing == shm.Private {
				clear(want)
			}
		}
		assert.Equal(t, want, m.Bytes(), "%v, %v", sharing, m.Huge())
	}
	m := newMapping(t, shm.Shared, odd, &shm.Config{Technique: shm.Memfd, Huge: shm.HugeExplicit})
	want := pattern(m)
	assert.NoError(t, wait(t, forked(t, m, ctest.Object)))
	assert.Equal(t, objectLen(t, m), *must(shm.At[int](m, 0)))
	copy(m.Bytes(), want)
	f := must(m.File())
	there, err := shm.MapFile(f)
	require.NoError(t, err)
	defer there.Close()
	require.NoError(t, f.Close())
	assert.Equal(t, m.Huge(), there.Huge())
	assert.Equal(t, want, there.Bytes()[:odd])
	there.Bytes()[0] = 99
	assert.Equal(t, byte(99), m.Bytes()[0])
	if there.Huge() == shm.HugeExplicit {
		assert.ErrorIs(t, there.Resize(hugepage.Explicit()+1, shm.MayMove), shm.ErrGrowShared)
		assert.NoError(t, there.Resize(100, shm.InPlace))
		assert.Equal(t, hugepage.Explicit(), objectLen(t, there))
	}
}
