//go:build linux && cgo

package shm_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

// assertFault wants an error that says op, and an address from a page of m on.
func assertFault(t *testing.T, err error, op string, page_ unsafe.Pointer) {
	t.Helper()
	var e *shm.Error
	if assert.ErrorAs(t, err, &e) {
		assert.Equal(t, op, e.Op)
	}
	assert.ErrorIs(t, err, shm.ErrFault)
	var f *shm.FaultError
	if assert.ErrorAs(t, err, &f) {
		assert.Equal(t, uintptr(page_), f.Addr&^uintptr(page-1))
		assert.ErrorContains(t, err, fmt.Sprintf("memory fault at address %#x", f.Addr))
	}
	assert.False(t, debug.SetPanicOnFault(false), "the goroutine is as it was")
}

// faulty are the ways in which the pages of a mapping of 4 pages can fail from
// the third on. What was in the first two stays.
var faulty = []struct {
	name string
	make func(t *testing.T) *shm.Mapping
}{
	{"ObjectShrunkByAnotherProcess", func(t *testing.T) *shm.Mapping {
		m, fd := overMemfd(t)
		out, err := exec.Command("truncate", "-s", strconv.Itoa(2*page),
			fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return m
	}},
	{"ObjectShrunkByAnotherDescriptor", func(t *testing.T) *shm.Mapping {
		m, fd := overMemfd(t)
		other, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(other)
		require.NoError(t, unix.Ftruncate(other, int64(2*page)))
		return m
	}},
	{"GrownPastItsObject", func(t *testing.T) *shm.Mapping {
		m := newMapping(t, shm.Private, 4*page, nil)
		small, err := shm.Mmap(nil, 2*page, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_SHARED|unix.MAP_ANONYMOUS, -1, 0)
		require.NoError(t, err)
		_, err = shm.Mremap(small, 2*page, 4*page, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, m.Addr())
		require.NoError(t, err)
		return m
	}},
	{"Protected", func(t *testing.T) *shm.Mapping {
		m := newMapping(t, shm.Shared, 4*page, nil)
		require.NoError(t, unix.Mprotect(m.Bytes()[2*page:], unix.PROT_NONE))
		return m
	}},
	{"Unmapped", func(t *testing.T) *shm.Mapping {
		m := newMapping(t, shm.Private, 4*page, nil)
		// Nothing else may come to lie there: a hole that only we can know of.
		_, err := shm.Mmap(unsafe.Add(m.Addr(), 2*page), 2*page, unix.PROT_NONE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, -1, 0)
		require.NoError(t, err)
		return m
	}},
}

// overMemfd puts a memory object of 4 pages in the place of a mapping's own.
func overMemfd(t *testing.T) (m *shm.Mapping, fd int) {
	fd, err := unix.MemfdCreate("shm-test", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Ftruncate(fd, int64(4*page)))
	m = newMapping(t, shm.Shared, 4*page, nil)
	_, err = shm.Mmap(m.Addr(), 4*page, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_FIXED, fd, 0)
	require.NoError(t, err)
	pattern(m)
	return m, fd
}

func TestFaultIsAnError(t *testing.T) {
	for _, how := range faulty {
		t.Run(how.name, func(t *testing.T) {
			m := how.make(t)
			good := m.Bytes()[:2*page]
			for i := range good {
				good[i] = byte(i % 251)
			}
			want := bytes.Clone(good)
			bad := unsafe.Add(m.Addr(), 2*page)

			for _, off := range []int{0, 1, page - 1, page, 2*page - 1, 2 * page} {
				// Out of the mapping, and into it: what lies before the bad page is read, and
				// written.
				p := bytes.Repeat([]byte{255}, 4*page-off)
				n, err := m.ReadAt(p, int64(off))
				assertFault(t, err, "read", bad)
				assert.Equal(t, 2*page-off, n)
				assert.Equal(t, want[off:], p[:n])

				for i := range p {
					p[i] = byte(7*i + off)
				}
				n, err = m.WriteAt(p, int64(off))
				assertFault(t, err, "write", bad)
				assert.Equal(t, 2*page-off, n)
				assert.Equal(t, p[:n], good[off:])
				copy(good, want)

				// The caller's own slice is the bad one.
				sound := newMapping(t, shm.Private, 5*page, nil)
				n, err = sound.WriteAt(m.Bytes()[off:], 5)
				assertFault(t, err, "write", bad)
				assert.Equal(t, 2*page-off, n)
				assert.Equal(t, want[off:], sound.Bytes()[5:][:n])
				copy(sound.Bytes(), want)
				n, err = sound.ReadAt(m.Bytes()[off:], 0)
				assertFault(t, err, "read", bad)
				assert.Equal(t, 2*page-off, n)
				assert.Equal(t, want[:n], good[off:])
				copy(good, want)
			}

			// What avoids the bad pages is as ever.
			p := make([]byte, 2*page)
			n, err := m.ReadAt(p, 0)
			assert.NoError(t, err)
			assert.Equal(t, want[:n], p)
			n, err = m.WriteAt(p, 0)
			assert.NoError(t, err)
			assert.Equal(t, 2*page, n)
		})
	}
}

// Where a slice is copied over itself, half a copy leaves nothing to count.
func TestFaultOfOverlappingBytesCountsNothing(t *testing.T) {
	m := newMapping(t, shm.Private, 4*page, nil)
	pattern(m)
	require.NoError(t, unix.Mprotect(m.Bytes()[2*page:3*page], unix.PROT_READ))
	n, err := m.WriteAt(m.Bytes()[:3*page], 100)
	assertFault(t, err, "write", unsafe.Add(m.Addr(), 2*page))
	assert.Zero(t, n)
}

func TestFaultOfAProtectedPageInOneDirection(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, 2*page, cfg)
		want := pattern(m)
		require.NoError(t, unix.Mprotect(m.Bytes(), unix.PROT_READ))
		p := make([]byte, 2*page)
		n, err := m.ReadAt(p, 0)
		assert.NoError(t, err)
		assert.Equal(t, want, p[:n])
		n, err = m.WriteAt(p, 0)
		assertFault(t, err, "write", m.Addr())
		assert.Zero(t, n)
		require.NoError(t, unix.Mprotect(m.Bytes(), unix.PROT_READ|unix.PROT_WRITE))
		n, err = m.WriteAt(p, 0)
		assert.NoError(t, err)
		assert.Equal(t, 2*page, n)
	})
}

func TestFaultWhileAnotherGoroutineProtects(t *testing.T) {
	m := newMapping(t, shm.Private, 4*page, nil)
	want := pattern(m)
	all := m.Bytes()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer func() { assert.NoError(t, unix.Mprotect(all, unix.PROT_READ|unix.PROT_WRITE)) }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			assert.NoError(t, unix.Mprotect(all[2*page:3*page], unix.PROT_NONE))
			runtime.Gosched()
			assert.NoError(t, unix.Mprotect(all[2*page:3*page], unix.PROT_READ|unix.PROT_WRITE))
			runtime.Gosched()
		}
	}()
	p, faults, whole := make([]byte, 4*page), 0, 0
	for i := 0; faults == 0 || whole == 0 || i < 2000; i++ { // both must be seen
		clear(p)
		n, err := m.ReadAt(p, 0)
		if err == nil {
			n, err = m.WriteAt(p[:n], 0)
		}
		if err == nil {
			whole++
			require.Equal(t, 4*page, n)
		} else {
			faults++
			require.ErrorIs(t, err, shm.ErrFault)
			require.Equal(t, 2*page, n)
		}
		require.Equal(t, want[:n], p[:n])
	}
	close(stop)
	wg.Wait()
	assert.Equal(t, want, m.Bytes())
}

// Huge pages that were not set aside are there when they are touched, or not.
func TestFaultWhenNoHugePageIsLeft(t *testing.T) {
	var free, huge int
	for line := range strings.Lines(string(must(os.ReadFile("/proc/meminfo")))) {
		if rest, found := strings.CutPrefix(line, "HugePages_Free:"); found {
			free = must(strconv.Atoi(strings.TrimSpace(rest)))
		}
		if rest, found := strings.CutPrefix(line, "Hugepagesize:"); found {
			huge = must(strconv.Atoi(strings.Fields(rest)[0])) << 10
		}
	}
	span := (min(free, 64) + 1) * huge
	// HugeTransparent aligns the mapping.
	m := newMapping(t, shm.Private, span,
		&shm.Config{Technique: shm.Anonymous, Huge: shm.HugeTransparent})
	_, err := shm.Mmap(m.Addr(), span, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED|unix.MAP_HUGETLB|unix.MAP_NORESERVE,
		-1, 0)
	if err != nil || free > 64 {
		t.Skipf("this machine has no huge pages, or too many to use up: %v, %d", err, free)
	}
	bad := unsafe.Add(m.Addr(), span-huge)
	p := bytes.Repeat([]byte{7}, span)
	n, err := m.WriteAt(p, 0)
	assertFault(t, err, "write", bad)
	assert.Equal(t, span-huge, n)
	n, err = m.ReadAt(p, 0)
	assertFault(t, err, "read", bad)
	assert.Equal(t, span-huge, n)
	_, err = m.ReadFrom(bytes.NewReader(p))
	assert.ErrorIs(t, err, shm.ErrFault)
	var b shm.Buffer
	defer b.Close()
	n, err = b.Write(m.Bytes())
	assertFault(t, err, "write", bad)
	assert.Equal(t, span-huge, n)
}

// The setting of a goroutine that had asked for panics itself stays.
func TestFaultLeavesPanicOnFaultAsItWas(t *testing.T) {
	m := newMapping(t, shm.Private, page, nil)
	p := []byte{0}
	require.NoError(t, unix.Mprotect(m.Bytes(), unix.PROT_READ))
	for _, setting := range []bool{true, false} {
		before := debug.SetPanicOnFault(setting)
		_, readErr := m.ReadAt(p, 0)
		_, writeErr := m.WriteAt(p, 0)
		assert.Equal(t, setting, debug.SetPanicOnFault(before))
		assert.NoError(t, readErr)
		assert.ErrorIs(t, writeErr, shm.ErrFault)
	}
}

// A fault of ours must not make other goroutines' faults, or later ones, into
// panics.
func TestFaultElsewhereStillCrashes(t *testing.T) {
	if os.Getenv("SHM_TEST_FAULT") != "" {
		m := newMapping(t, shm.Private, page, nil)
		require.NoError(t, unix.Mprotect(m.Bytes(), unix.PROT_NONE))
		_, err := m.ReadAt(make([]byte, 1), 0)
		require.ErrorIs(t, err, shm.ErrFault)
		defer func() { recover() }()
		m.Bytes()[0] = 1
	}
	cmd := exec.Command(must(os.Executable()), "-test.run=^TestFaultElsewhereStillCrashes$")
	cmd.Env = append(os.Environ(), "SHM_TEST_FAULT=1", "SHM_TEST_PROCESS=none")
	out, err := cmd.CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "fatal error: fault")
}

// A copy that faults on its way backward would leave the direction flag of the
// processor set, and every later copy and clearing in the runtime would go the
// wrong way. Without AVX that is how overlapping memory is copied.
func TestOverlappingCopyThatFaultsLeavesTheRuntimeSound(t *testing.T) {
	if n := os.Getenv("SHM_TEST_FAULT"); n != "" {
		for range must(strconv.Atoi(n)) {
			faultBackward(t)
		}
		return
	}
	for _, setting := range []string{"", "cpu.avx=off", "cpu.avx=off,cpu.erms=off"} {
		cmd := exec.Command(must(os.Executable()),
			"-test.run=^TestOverlappingCopyThatFaultsLeavesTheRuntimeSound$")
		cmd.Env = append(os.Environ(), "SHM_TEST_FAULT="+strconv.Itoa(times(100, 10)), "SHM_TEST_PROCESS=none",
			"GODEBUG="+setting)
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "GODEBUG=%s: %s", setting, out)
	}
}

func faultBackward(t *testing.T) {
	for _, bad := range []int{0, 1, 2, 3} { // the page that may not be written
		m := newMapping(t, shm.Private, 4*page, nil)
		require.NoError(t, unix.Mprotect(m.Bytes()[bad*page:][:page], unix.PROT_READ))
		n, err := m.WriteAt(m.Bytes()[:3*page], 100)
		require.ErrorIs(t, err, shm.ErrFault)
		require.Zero(t, n)
		checkRuntime(t)

		var b shm.Buffer
		must(b.Write(make([]byte, 3*page)))
		p := unsafe.Slice(unsafe.SliceData(b.Bytes()), b.Cap())
		require.NoError(t, unix.Mprotect(p[3*page:][:page], unix.PROT_READ))
		_, err = b.Write(p[page+1:][:3*page]) // its first bytes, and those that it appends to
		require.ErrorIs(t, err, shm.ErrFault)
		require.NoError(t, b.Close())
		checkRuntime(t)
	}
}

// checkRuntime has the runtime clear and copy memory.
func checkRuntime(t *testing.T) {
	var s []int
	for i := range 3000 {
		s = append(s, i)
	}
	for i, v := range s {
		if i != v {
			t.Fatalf("%d is %d", i, v)
		}
	}
	big := make([]byte, 1<<20)
	require.Equal(t, len(big), bytes.Count(big, []byte{0}))
}

// Overlapping copies are right, whichever way they go.
func TestOverlappingCopies(t *testing.T) {
	m := newMapping(t, shm.Private, 8*page, nil)
	from := page + 1904
	for _, size := range []int{1, 300, page - 1, page, page + 1, 3*page + 5} {
		for _, by := range []int{-odd, -page, -300, -1, 0, 1, 2, 300, page - 1, page, page + 1,
			page + 904} {
			want := pattern(m)
			copy(want[from+by:], want[from:][:size])
			n, err := m.WriteAt(m.Bytes()[from:][:size], int64(from+by))
			require.NoError(t, err)
			require.Equal(t, size, n)
			require.True(t, bytes.Equal(want, m.Bytes()), "%d bytes by %d", size, by)
		}
	}
}
