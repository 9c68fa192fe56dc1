//go:build linux && cgo

package shm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/procmaps"
	"forkshm.example/shm/internal/testenv"
)

func TestMain(m *testing.M) {
	hook.KillTimeout = 5 * time.Minute // for a hang, and not for a slow machine
	// The runtime's poller opens its own descriptors here, and not in a test.
	r, w, err := os.Pipe()
	must(0, err)
	r.Close()
	w.Close()
	descriptors := openDescriptors()

	code := m.Run()

	testenv.RemoveScratch()
	if code == 0 {
		code = leftOver(descriptors)
	}
	os.Exit(code)
}

// leftOver says what the tests left behind, and returns an exit status.
func leftOver(descriptors int) (code int) {
	complain := func(format string, a ...any) {
		fmt.Fprintf(os.Stderr, "FAIL: left over: "+format+"\n", a...)
		code = 1
	}
	eventually(func() bool { // files that a test left to the garbage collector are its own affair
		runtime.GC()
		return openDescriptors() <= descriptors && mappings() == 0 && shm.ControlPages() == 0 &&
			shm.ReadCounters().Live == 0
	})
	if pid, _, err := shm.Waitpid(-1, unix.WNOHANG); err != unix.ECHILD {
		complain("a child (%d, %v)", pid, err)
	}
	if n := openDescriptors(); n > descriptors {
		complain("%d descriptors, %d at first", n, descriptors)
	}
	if n := mappings(); n != 0 {
		complain("%d mappings", n)
	}
	if n := shm.ControlPages(); n != 0 {
		complain("%d control pages of children", n)
	}
	if n := shm.ReadCounters().Live; n != 0 {
		complain("%d children in the counters", n)
	}
	return code
}

func openDescriptors() int { return len(must(os.ReadDir("/proc/self/fd"))) - 1 }

// mappings counts what can be told to be ours: shared anonymous memory,
// /dev/zero and memfds, which have a name in the maps file.
func mappings() int {
	n := -shm.VMAsOfControlPage * shm.ControlPages()
	for _, v := range must(procmaps.Read(0)) {
		if strings.HasPrefix(v.Name, "/dev/zero") || strings.HasPrefix(v.Name, "/memfd:") {
			n++
		}
	}
	return n
}

// What other packages' tests need too.
var (
	eventually   = testenv.Eventually
	buildSetting = testenv.BuildSetting
	compileOnce  = testenv.CompileOnce
	goBuildOnce  = testenv.GoBuildOnce
	mapsAt       = testenv.MapsAt
	cc           = testenv.CC
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// times returns how often a test does something: less often if go test has the flag -short.
func times(n, short int) int {
	if testing.Short() {
		return short
	}
	return n
}

// forEach runs a test for both sharings and all techniques.
func forEach(t *testing.T, test func(t *testing.T, sharing shm.Sharing, cfg *shm.Config)) {
	for _, sharing := range []shm.Sharing{shm.Private, shm.Shared} {
		for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero, shm.Memfd} {
			t.Run(fmt.Sprintf("%v,%v", sharing, strings.TrimPrefix(technique.String(), "/dev/")),
				func(t *testing.T) {
					test(t, sharing, &shm.Config{Technique: technique})
				})
		}
	}
}

// newMapping maps, and closes at the end of the test what the test did not
// close.
func newMapping(t testing.TB, sharing shm.Sharing, length int, cfg *shm.Config) *shm.Mapping {
	t.Helper()
	m, err := shm.Map(sharing, length, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			assert.ErrorIs(t, err, shm.ErrClosed)
		}
	})
	return m
}

// holds says whether a byte is to be found at an address. What was unmapped
// there may be another thread's by now: that it is no longer ours is all that
// can be asked.
func holds(addr uintptr, b byte) bool {
	got := []byte{0}
	_, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{{Base: &got[0], Len: 1}},
		[]unix.RemoteIovec{{Base: addr, Len: 1}}, 0)
	return err == nil && got[0] == b
}

// inOwnProcess runs the rest of the calling test in a process of its own, for
// what cannot be undone. It returns true there, and false in the test's own
// process once that has passed.
func inOwnProcess(t *testing.T, attr *syscall.SysProcAttr) bool {
	t.Helper()
	const env = "SHM_TEST_PROCESS"
	if os.Getenv(env) == t.Name() {
		return true
	}
	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.Command(must(os.Executable()), "-test.run="+pattern, "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if attr != nil && errors.Is(err, unix.EPERM) {
		t.Skip("this machine allows no namespace of one's own")
	}
	assert.NoError(t, err, "%s", out)
	if strings.Contains(string(out), "--- SKIP: "+t.Name()) {
		t.Skipf("%s", out)
	}
	assert.Contains(t, string(out), "--- PASS: "+t.Name())
	return false
}

// needWideInt skips a test that asks for more than an address space has: one of
// 32 bits, under a kernel of 64, has twice of what an int can say.
func needWideInt(t *testing.T) {
	t.Helper()
	if strconv.IntSize == 32 {
		t.Skip("an address space can have room for any int here")
	}
}

// needLinux513 skips a test of what the library refuses on an older kernel, as
// MREMAP_DONTUNMAP is for private anonymous memory alone there.
func needLinux513(t *testing.T) {
	t.Helper()
	var name unix.Utsname
	require.NoError(t, unix.Uname(&name))
	var major, minor int
	fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	if major < 5 || major == 5 && minor < 13 {
		t.Skipf("Linux %d.%d moves no pages of files and shared memory: that needs 5.13", major,
			minor)
	}
}

// needSetuid skips a test that gives up what root may. musl's setuid(2) has
// every thread run a signal handler on the stack that it is on, which may be a
// goroutine's, too small for that: the program crashes later.
func needSetuid(t *testing.T) {
	t.Helper()
	if !ctest.IsGlibc() && os.Getuid() == 0 {
		t.Skip("Go cannot set its user safely where the C library is musl")
	}
}

var page = os.Getpagesize()

// odd is a length of more than a page that is not a whole number of them.
var odd = page + 904

// tooLarge is more than an address space has, as far as an int can say that.
const tooLarge = min(1<<50, math.MaxInt)

func TestMapGivesZeroedWritableMemory(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, length := range []int{1, 100, page - 1, page, page + 1, odd, 1 << 20} {
			m := newMapping(t, sharing, length, cfg)
			b := m.Bytes()
			require.Len(t, b, length)
			assert.Equal(t, length, cap(b))
			assert.Equal(t, length, m.Len())
			assert.Equal(t, m.Addr(), unsafe.Pointer(&b[0]))
			assert.Zero(t, uintptr(m.Addr())%uintptr(os.Getpagesize()))
			assert.Equal(t, make([]byte, length), b)
			assert.Equal(t, pattern(m), b)
			assert.NoError(t, m.Close())
		}
	})
}

func TestMapMakesWhatItIsAskedFor(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, page, cfg)
		assert.Equal(t, sharing, m.Sharing())
		assert.Equal(t, cfg.Technique, m.Technique())
		want := map[string]string{ // KERNEL.md: shared ones look alike
			"MAP_PRIVATE MAP_ANONYMOUS": "rw-p ",
			"MAP_PRIVATE /dev/zero":     "rw-p /dev/zero",
			"MAP_SHARED MAP_ANONYMOUS":  "rw-s /dev/zero (deleted)",
			"MAP_SHARED /dev/zero":      "rw-s /dev/zero (deleted)",
			"MAP_PRIVATE memfd":         "rw-p /memfd:shm (deleted)",
			"MAP_SHARED memfd":          "rw-s /memfd:shm (deleted)",
		}[fmt.Sprint(sharing, " ", cfg.Technique)]
		assert.Equal(t, want, mapsAt(uintptr(m.Addr())))
	})
}

func TestDefaultTechniqueIsTheBuilds(t *testing.T) {
	want := shm.Anonymous
	if strings.Contains(buildSetting("-tags"), "devzero") {
		want = shm.DevZero
	}
	assert.Equal(t, want, shm.DefaultTechnique())
	assert.Equal(t, want, newMapping(t, shm.Private, 1, nil).Technique())
	assert.Equal(t, want, newMapping(t, shm.Private, 1, &shm.Config{}).Technique())
}

func TestMapFailsAsMmapDoes(t *testing.T) {
	needWideInt(t)
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		flags := map[shm.Sharing]int{shm.Private: unix.MAP_PRIVATE,
			shm.Shared: unix.MAP_SHARED}[sharing]
		for _, length := range []int{0, -1, -page, math.MinInt + 1, math.MaxInt, tooLarge} {
			_, want := shm.Mmap(nil, length, unix.PROT_READ, flags|unix.MAP_ANONYMOUS, -1, 0)
			require.Error(t, want)
			m, err := shm.Map(sharing, length, cfg)
			assert.Nil(t, m)
			assert.ErrorIs(t, err, want, "length %d", length)
			assert.Equal(t, fmt.Sprintf("shm: map %d bytes: mmap: %v", length, want), err.Error())
		}
	})
	for _, sharing := range []shm.Sharing{0, 3, -1} {
		_, err := shm.Map(sharing, page, nil)
		assert.ErrorIs(t, err, unix.EINVAL)
	}
	for _, technique := range []shm.Technique{-1, 9, math.MaxInt,
		shm.Technique(min(1<<32+1, math.MaxInt))} {
		_, err := shm.Map(shm.Private, page, &shm.Config{Technique: technique})
		assert.ErrorIs(t, err, unix.EINVAL)
	}
}

func TestMapRefusesWhatCannotBeHad(t *testing.T) {
	for _, row := range []struct {
		cfg  shm.Config
		want error
	}{
		{shm.Config{Reserve: -1}, unix.EINVAL},
		{shm.Config{Reserve: math.MinInt}, unix.EINVAL},
		{shm.Config{Reserve: math.MaxInt}, unix.ENOMEM},
		{shm.Config{Reserve: tooLarge}, unix.ENOMEM},
		{shm.Config{Huge: -1}, unix.EINVAL},
		{shm.Config{Huge: 3}, unix.EINVAL},
		{shm.Config{Technique: shm.DevZero, Huge: shm.HugeExplicit}, errors.ErrUnsupported},
		{shm.Config{Technique: shm.Memfd, Huge: shm.HugeExplicit, Guard: true},
			errors.ErrUnsupported},
		{shm.Config{Technique: shm.Anonymous, Huge: shm.HugeExplicit, Reserve: page},
			errors.ErrUnsupported},
	} {
		for _, sharing := range []shm.Sharing{shm.Private, shm.Shared} {
			m, err := shm.Map(sharing, page, &row.cfg)
			assert.Nil(t, m)
			assert.ErrorIs(t, err, row.want, "%+v", row.cfg)
		}
	}
}

func TestErrorSaysWhatFailed(t *testing.T) {
	needWideInt(t)
	_, err := shm.Map(shm.Private, tooLarge, nil)
	var e *shm.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "map", e.Op)
	assert.Equal(t, tooLarge, e.Length)
	var call *os.SyscallError
	require.ErrorAs(t, err, &call)
	assert.Equal(t, "mmap", call.Syscall)
	assert.ErrorIs(t, err, unix.ENOMEM)
}

func second[T any](_ T, err error) error { return err }

func TestClosedMappingIsRefusedByAll(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		closed := newMapping(t, sharing, page, cfg)
		require.NoError(t, closed.Close())
		for _, m := range []*shm.Mapping{closed, {}} { // nor does one that Map did not make crash
			other := newMapping(t, sharing, page, cfg)
			_, readErr := m.ReadAt(make([]byte, 1), 0)
			_, writeErr := m.WriteAt(make([]byte, 1), 0)
			_, atErr := shm.At[byte](m, 0)
			_, sliceErr := shm.Slice[byte](m, 0, 1)
			_, forkErr := m.Fork(nil, nil)
			for _, err := range []error{
				m.Close(), readErr, writeErr, atErr, sliceErr, forkErr,
				m.Resize(2*page, shm.MayMove), m.MoveTo(other), other.MoveTo(m), m.MoveTo(m),
				m.Protect(shm.ReadOnly), m.Advise(0, 0, 0), m.Lock(), m.Unlock(), m.Truncate(1),
				m.Seal(0), m.Swap(other), other.Swap(m),
				second(m.Stats()), second(m.ObjectLen()), second(m.File()), second(m.Detach()),
				second(m.WriteTo(io.Discard)), second(m.ReadFrom(strings.NewReader("x"))),
			} {
				assert.ErrorIs(t, err, shm.ErrClosed)
			}
			assert.Nil(t, m.Bytes())
			assert.Nil(t, m.Addr())
			assert.Zero(t, m.Len())
			assert.NoError(t, other.Close())
		}
	})
}

func TestReadAtIsAReaderAt(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, odd, cfg)
		for i, b := 0, m.Bytes(); i < len(b); i++ {
			b[i] = byte(i * 7)
		}
		assert.NoError(t, iotest.TestReader(io.NewSectionReader(m, 0, int64(odd)), m.Bytes()))

		for _, row := range []struct {
			off  int64
			p, n int
			err  error
		}{
			{0, odd, odd, nil},
			{int64(odd - 1), 1, 1, nil},
			{int64(odd - 1), 2, 1, io.EOF},
			{0, odd + 1, odd, io.EOF},
			{int64(odd), 1, 0, io.EOF},
			{1 << 40, 1, 0, io.EOF},
			{math.MaxInt64, 1, 0, io.EOF},
			{10, 0, 0, nil},
			{-1, 1, 0, shm.ErrRange},
			{math.MinInt64, 1, 0, shm.ErrRange},
		} {
			n, err := m.ReadAt(make([]byte, row.p), row.off)
			assert.Equal(t, row.n, n, "%+v", row)
			assert.ErrorIs(t, err, row.err, "%+v", row)
		}
	})
}

func TestWriteAtWritesAllOrNothing(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, odd, cfg)
		for _, row := range []struct {
			off int64
			p   int
			err error
		}{
			{0, odd, nil},
			{int64(odd - 1), 1, nil},
			{int64(odd), 0, nil},
			{int64(odd - 1), 2, shm.ErrRange},
			{0, odd + 1, shm.ErrRange},
			{int64(odd), 1, shm.ErrRange},
			{int64(odd + 1), 0, shm.ErrRange},
			{-1, 1, shm.ErrRange},
			{math.MaxInt64, 1, shm.ErrRange},
			{math.MinInt64, 1, shm.ErrRange},
		} {
			clear(m.Bytes())
			p := []byte(strings.Repeat("x", row.p))
			want := make([]byte, odd)
			wantN := 0
			if row.err == nil {
				wantN = copy(want[row.off:], p)
			}
			n, err := m.WriteAt(p, row.off)
			assert.ErrorIs(t, err, row.err, "%+v", row)
			assert.Equal(t, wantN, n, "%+v", row)
			assert.Equal(t, want, m.Bytes(), "%+v", row)
		}
	})
	m := newMapping(t, shm.Private, 10, nil)
	_, err := m.WriteAt([]byte("abcd"), 8)
	assert.EqualError(t, err, "shm: write 4 bytes: offset 8: out of range of a mapping of 10 bytes")
}

type point struct {
	X, Y int32
	Tag  [4]byte
}

func TestAtIsWhereTheBytesAre(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, page, cfg)
		p, err := shm.At[point](m, 8)
		require.NoError(t, err)
		*p = point{1, -1, [4]byte{'a', 'b'}}
		assert.Equal(t, unsafe.Pointer(&m.Bytes()[8]), unsafe.Pointer(p))
		assert.Equal(t, []byte{1, 0, 0, 0, 255, 255, 255, 255, 'a', 'b', 0, 0}, m.Bytes()[8:20])

		s, err := shm.Slice[uint16](m, 8, 2)
		require.NoError(t, err)
		assert.Equal(t, []uint16{1, 0}, s)
		assert.Equal(t, 2, cap(s))
		s[1] = 0x0203
		assert.Equal(t, int32(0x02030001), p.X)
		all, err := shm.Slice[uint64](m, 0, page/8)
		require.NoError(t, err)
		all[len(all)-1] = 1
		assert.Equal(t, byte(1), m.Bytes()[page-8])
	})
}

func TestAtRefusesWhatWouldCrash(t *testing.T) {
	m := newMapping(t, shm.Private, 100, nil) // the page goes on beyond it
	at := func(_ any, err error) error { return err }
	for _, row := range []struct {
		what string
		err  error
		want error
	}{
		{"last byte", at(shm.At[byte](m, 99)), nil},
		{"past the end", at(shm.At[byte](m, 100)), shm.ErrRange},
		{"half past the end", at(shm.At[uint64](m, 96)), shm.ErrRange},
		{"last that fits", at(shm.At[uint32](m, 96)), nil},
		{"larger than the mapping", at(shm.At[[101]byte](m, 0)), shm.ErrRange},
		{"negative", at(shm.At[byte](m, -1)), shm.ErrRange},
		{"most negative", at(shm.At[uint64](m, math.MinInt)), shm.ErrRange},
		{"overflowing", at(shm.At[uint64](m, math.MaxInt-7)), shm.ErrRange},
		{"misaligned", at(shm.At[uint32](m, 2)), shm.ErrAlign},
		{"misaligned struct", at(shm.At[point](m, 6)), shm.ErrAlign},
		{"nothing, at the end", at(shm.At[struct{}](m, 100)), nil},

		{"slice of all", at(shm.Slice[byte](m, 0, 100)), nil},
		{"slice past the end", at(shm.Slice[byte](m, 1, 100)), shm.ErrRange},
		{"empty slice at the end", at(shm.Slice[uint32](m, 100, 0)), nil},
		{"empty slice past the end", at(shm.Slice[uint32](m, 104, 0)), shm.ErrRange},
		{"slice of negative length", at(shm.Slice[byte](m, 0, -1)), shm.ErrRange},
		{"slice of most negative length", at(shm.Slice[uint64](m, 0, math.MinInt)), shm.ErrRange},
		{"slice that overflows to 0", at(shm.Slice[uint64](m, 0, 1<<(strconv.IntSize-3))),
			shm.ErrRange},
		{"slice that overflows to 8", at(shm.Slice[uint64](m, 0, 1<<(strconv.IntSize-3)+1)),
			shm.ErrRange},
		{"slice of greatest length", at(shm.Slice[byte](m, 8, math.MaxInt)), shm.ErrRange},
		{"misaligned slice", at(shm.Slice[uint16](m, 1, 2)), shm.ErrAlign},
		{"slice of nothings", at(shm.Slice[struct{}](m, 0, math.MaxInt)), nil},

		{"pointer", at(shm.At[*int](m, 0)), shm.ErrType},
		{"string", at(shm.At[string](m, 0)), shm.ErrType},
		{"slice", at(shm.At[[]int](m, 0)), shm.ErrType},
		{"map", at(shm.At[map[int]int](m, 0)), shm.ErrType},
		{"chan", at(shm.At[chan int](m, 0)), shm.ErrType},
		{"func", at(shm.At[func()](m, 0)), shm.ErrType},
		{"interface", at(shm.At[error](m, 0)), shm.ErrType},
		{"unsafe.Pointer", at(shm.At[unsafe.Pointer](m, 0)), shm.ErrType},
		{"pointer in an array in a struct", at(shm.At[struct{ a [2]*int }](m, 0)), shm.ErrType},
		{"atomic pointer", at(shm.At[atomic.Pointer[int]](m, 0)), shm.ErrType},
		{"slice of pointers", at(shm.Slice[*int](m, 0, 1)), shm.ErrType},
		{"no pointers at all", at(shm.At[[0]*int](m, 0)), nil},
		{"uintptr", at(shm.At[uintptr](m, 0)), nil},
		{"complex", at(shm.At[complex128](m, 0)), nil},
		{"bool", at(shm.At[bool](m, 0)), nil},
		{"atomic", at(shm.At[atomic.Int64](m, 0)), nil},
	} {
		if row.want == nil {
			assert.NoError(t, row.err, row.what)
			continue
		}
		assert.ErrorIs(t, row.err, row.want, row.what)
		var e *shm.Error
		assert.ErrorAs(t, row.err, &e, row.what)
	}
	_, err := shm.At[uint32](m, 2)
	assert.EqualError(t, err,
		"shm: access 4 bytes: uint32 at offset 2: misaligned, must be a multiple of 4")
}

func TestUnreachableMappingIsUnmapped(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		kept := newMapping(t, sharing, page, cfg)
		kept.Bytes()[0] = 7
		m, err := shm.Map(sharing, 16*page, cfg)
		require.NoError(t, err)
		require.NoError(t, m.MoveTo(newMapping(t, sharing, 16*page, cfg))) // the cleanup must know
		require.NoError(t, m.Resize(8*page, shm.InPlace))
		end := uintptr(m.Addr()) + uintptr(8*page-1)
		m.Bytes()[8*page-1] = 0xa5
		require.True(t, holds(end, 0xa5))
		runtime.KeepAlive(m)

		assert.True(t, eventually(func() bool {
			runtime.GC()
			return !holds(end, 0xa5)
		}))
		assert.Equal(t, byte(7), kept.Bytes()[0])
	})
}

func TestCloseWaitsForThoseInside(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for range times(10, 2) {
			m := newMapping(t, sharing, 4<<20, cfg)
			var users sync.WaitGroup
			var inside atomic.Int32
			for i := range 4 {
				users.Add(1)
				go func() {
					defer users.Done()
					p := make([]byte, m.Len())
					for err := error(nil); !errors.Is(err, shm.ErrClosed); {
						inside.Add(1)
						if i%2 == 0 {
							_, err = m.ReadAt(p, 0)
						} else {
							_, err = m.WriteAt(p, 0)
						}
					}
				}()
			}
			require.True(t, eventually(func() bool { return inside.Load() > 8 }))
			assert.NoError(t, m.Close())
			users.Wait()
		}
	})
}

// Until its last method has returned a mapping is in use, whatever the garbage
// collector sees.
func TestMappingInUseStays(t *testing.T) {
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Add(1)
	go func() {
		defer collector.Done()
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		p := bytes.Repeat([]byte{1}, 4<<20)
		for range times(20, 5) {
			n, err := must(shm.Map(sharing, len(p), cfg)).WriteAt(p, 0)
			assert.NoError(t, err)
			assert.Equal(t, len(p), n)
		}
		for range times(20, 5) {
			p, err := must(shm.Map(sharing, page, cfg)).Fork(ctest.FirstLast, nil)
			assert.NoError(t, err)
			assert.NoError(t, wait(t, p))
		}
	})
	close(stop)
	collector.Wait()
}

func TestClosedMappingIsNotUnmappedAgain(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		var again unsafe.Pointer
		require.True(t, eventually(func() bool { // another thread may map something there
			m := must(shm.Map(sharing, page, cfg))
			addr := m.Addr()
			require.NoError(t, m.Close())
			var err error
			again, err = shm.Mmap(addr, page, unix.PROT_READ,
				unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, -1, 0)
			return err == nil
		}))
		for range 5 {
			runtime.GC()
		}
		assert.NotEqual(t, "nothing", mapsAt(uintptr(again)))
		assert.NoError(t, shm.Munmap(again, page))
	})
}

func TestMappingIsUsedFromManyGoroutines(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, 8*page, cfg)
		var wg sync.WaitGroup
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				p := make([]byte, 3*page)
				for i := range 300 {
					m.ReadAt(p, int64(i*100))
					m.WriteAt(p, int64(i*100))
					m.Bytes()
					shm.At[uint64](m, i*8)
					m.Resize((1+i%8)*page, shm.Move(i%2))
				}
			}()
		}
		wg.Wait()
		assert.NoError(t, m.Close())
	})
}

func TestMmapMapsAFileFromItsOffset(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteString(strings.Repeat("a", page) + strings.Repeat("b", page))
	require.NoError(t, err)
	p, err := shm.Mmap(nil, page, unix.PROT_READ, unix.MAP_SHARED, int(f.Fd()), int64(page))
	require.NoError(t, err)
	assert.Equal(t, byte('b'), *(*byte)(p))
	assert.NoError(t, shm.Munmap(p, page))
	_, err = shm.Mmap(nil, page, unix.PROT_READ, unix.MAP_SHARED, int(f.Fd()), 1)
	assert.Equal(t, unix.EINVAL, err)
}

func TestMapWithoutDevZero(t *testing.T) {
	attr := &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if os.Getuid() != 0 { // to mount takes root, of a user namespace at least
		attr.Unshareflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	if !inOwnProcess(t, attr) {
		return
	}
	if err := unix.Mount("none", "/dev", "tmpfs", 0, ""); err != nil {
		t.Skipf("this machine allows no mounts in a namespace of one's own: %v", err)
	}
	_, err := shm.Map(shm.Shared, page, &shm.Config{Technique: shm.DevZero})
	assert.EqualError(t, err,
		fmt.Sprintf("shm: map %d bytes: open /dev/zero: no such file or directory", page))
	assert.ErrorIs(t, err, unix.ENOENT)
	m, err := shm.Map(shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	require.NoError(t, err)
	assert.NoError(t, m.Close())
}

func TestMapWithFullDescriptorTable(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	fillDescriptorTable(t)
	_, err := shm.Map(shm.Private, page, &shm.Config{Technique: shm.DevZero})
	assert.EqualError(t, err,
		fmt.Sprintf("shm: map %d bytes: open /dev/zero: too many open files", page))
	newMapping(t, shm.Private, page, &shm.Config{Technique: shm.Anonymous})
}

// fillDescriptorTable leaves this process no descriptor to open.
func fillDescriptorTable(t *testing.T) {
	next, err := unix.Dup(0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(next))
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	full := limit
	full.Cur = uint64(next)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &full))
	t.Cleanup(func() { assert.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) })
	_, err = unix.Dup(0)
	require.Equal(t, unix.EMFILE, err)
}

func TestMapWithoutAddressSpace(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, page, cfg)
		m.Bytes()[0] = 7
		var before unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_AS, &before))
		limit := before
		limit.Cur = uint64(addressSpace(t)) + 256<<20 // room for the runtime
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &limit))

		_, mapErr := shm.Map(sharing, 1<<30, cfg)
		var resizeErr error
		if sharing == shm.Private {
			resizeErr = m.Resize(1<<30, shm.MayMove)
		}
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &before))

		assert.EqualError(t, mapErr, "shm: map 1073741824 bytes: mmap: cannot allocate memory")
		switch {
		case sharing == shm.Private && cfg.Technique == shm.Memfd:
			// mremap looks for a new place.
			assert.ErrorIs(t, resizeErr, unix.ENOMEM)
		case sharing == shm.Private:
			assert.EqualError(t, resizeErr,
				"shm: resize to 1073741824 bytes: mremap: cannot allocate memory")
		}
		assert.Equal(t, page, m.Len())
		assert.Equal(t, byte(7), m.Bytes()[0])
	})
}

func addressSpace(t *testing.T) (bytes int) {
	_, err := fmt.Sscan(string(must(os.ReadFile("/proc/self/statm"))), &bytes)
	require.NoError(t, err)
	return bytes * os.Getpagesize()
}
