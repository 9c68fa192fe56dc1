//go:build linux && cgo

package shm_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

var (
	_ io.Writer       = (*shm.Buffer)(nil)
	_ io.StringWriter = (*shm.Buffer)(nil)
	_ io.ByteWriter   = (*shm.Buffer)(nil)
	_ io.ReaderFrom   = (*shm.Buffer)(nil)
	_ io.WriterTo     = (*shm.Buffer)(nil)
	_ io.Closer       = (*shm.Buffer)(nil)
)

func TestBufferZeroValueIsReady(t *testing.T) {
	var b shm.Buffer
	assert.Empty(t, b.Bytes())
	assert.Zero(t, b.Len())
	assert.Zero(t, b.Cap())
	assert.NoError(t, b.Truncate(0))
	assert.NoError(t, b.Grow(0))
	n, err := b.WriteTo(nil)
	assert.NoError(t, err)
	assert.Zero(t, n)
	b.Reset()
	wrote, err := b.Write(nil)
	assert.NoError(t, err)
	assert.Zero(t, wrote)
	assert.Zero(t, b.Cap(), "nothing was needed")
	assert.NoError(t, b.Close())
	assert.ErrorIs(t, b.Close(), shm.ErrClosed)
}

func TestBufferKeepsWhatIsAppended(t *testing.T) {
	var b shm.Buffer
	defer b.Close()
	var want bytes.Buffer
	data := make([]byte, 300<<10)
	rand.NewChaCha8([32]byte{}).Read(data)
	for i := 0; want.Len() < 20<<20; i += 7919 {
		chunk := data[:i%len(data)]
		want.Write(chunk)
		n, err := b.Write(chunk)
		require.NoError(t, err)
		require.Equal(t, len(chunk), n)
	}
	require.Equal(t, want.Len(), b.Len())
	assert.True(t, bytes.Equal(want.Bytes(), b.Bytes()))
	assert.Equal(t, b.Len(), cap(b.Bytes()), "an append by the caller goes elsewhere")
}

func TestBufferWritesAPartOfItself(t *testing.T) {
	var b shm.Buffer
	defer b.Close()
	require.NoError(t, b.WriteByte('a'))
	for range 22 { // it moves in some of them
		n, err := b.Write(b.Bytes())
		require.NoError(t, err)
		require.Equal(t, b.Len()/2, n)
	}
	assert.Equal(t, bytes.Repeat([]byte{'a'}, 1<<22), b.Bytes())
}

// Doubling moves pages, and has none that hold nothing.
func TestBufferGrowsByDoublingInPages(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	withoutHugePages(t)
	var b shm.Buffer
	defer b.Close()
	chunk, caps := make([]byte, 1000), map[int]bool{}
	for b.Len() < 8<<20 {
		must(b.Write(chunk))
		caps[b.Cap()] = true
	}
	for c := range caps {
		assert.Zero(t, c%page)
		assert.Zero(t, c&(c-1), "%d", c)
	}
	assert.Len(t, caps, 9) // 64 KiB to 16 MiB

	require.NoError(t, b.Grow(100<<20))
	assert.GreaterOrEqual(t, b.Cap(), b.Len()+100<<20)
	addr, length := &b.Bytes()[0], b.Cap()
	assert.LessOrEqual(t, residentPages(t, unsafe.Pointer(addr), length), b.Len()/page+1)
	for range 100 << 10 {
		must(b.Write(chunk))
	}
	assert.Same(t, addr, &b.Bytes()[0], "what was made room for does not move")
	assert.Equal(t, length, b.Cap())
}

func residentPages(t *testing.T, addr unsafe.Pointer, length int) (n int) {
	in := make([]byte, wholePages(length)/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(addr), uintptr(length),
		uintptr(unsafe.Pointer(&in[0])))
	require.Zero(t, errno)
	for _, b := range in {
		n += int(b & 1)
	}
	return n
}

func TestBufferTruncateAndReset(t *testing.T) {
	var b shm.Buffer
	defer b.Close()
	must(b.WriteString("hello, world"))
	require.NoError(t, b.Truncate(5))
	assert.Equal(t, "hello", string(b.Bytes()))
	for _, n := range []int{-1, 6, math.MaxInt, math.MinInt} {
		assert.ErrorIs(t, b.Truncate(n), shm.ErrRange)
	}
	assert.EqualError(t, b.Truncate(6),
		"shm: truncate to 6 bytes: out of range of a buffer of 5 bytes")
	must(b.WriteString("!"))
	assert.Equal(t, "hello!", string(b.Bytes()))
	room := b.Cap()
	b.Reset()
	assert.Zero(t, b.Len())
	assert.Equal(t, room, b.Cap())
	must(b.WriteString("again"))
	assert.Equal(t, "again", string(b.Bytes()))
}

func TestBufferReadFrom(t *testing.T) {
	data := make([]byte, 3<<20+17)
	rand.NewChaCha8([32]byte{1}).Read(data)
	boom := errors.New("boom")
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"Whole":   func(r io.Reader) io.Reader { return r },
		"Half":    iotest.HalfReader,
		"DataErr": iotest.DataErrReader,
		"Scribble": func(r io.Reader) io.Reader {
			return readerFunc(func(p []byte) (int, error) { clear(p); return r.Read(p) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b shm.Buffer
			defer b.Close()
			must(b.WriteString("before"))
			n, err := b.ReadFrom(wrap(bytes.NewReader(data)))
			require.NoError(t, err)
			assert.Equal(t, int64(len(data)), n)
			assert.Equal(t, "before", string(b.Bytes()[:6]))
			assert.True(t, bytes.Equal(data, b.Bytes()[6:]))
		})
	}
	var b shm.Buffer
	defer b.Close()
	n, err := b.ReadFrom(io.MultiReader(strings.NewReader("some"), iotest.ErrReader(boom)))
	assert.Equal(t, boom, err)
	assert.EqualValues(t, 4, n)
	for _, count := range []int{-1, math.MaxInt, math.MinInt} {
		_, err := b.ReadFrom(readerFunc(func([]byte) (int, error) { return count, nil }))
		assert.ErrorContains(t, err, "the reader returned a count of "+strconv.Itoa(count))
	}
	assert.Equal(t, "some", string(b.Bytes()))
	_, err = b.ReadFrom(readerFunc(func(p []byte) (int, error) { b.Close(); return len(p), nil }))
	assert.Error(t, err, "closed under it")
}

func TestBufferWriteTo(t *testing.T) {
	var b shm.Buffer
	defer b.Close()
	data := strings.Repeat("x", 200<<10)
	must(b.WriteString(data))
	for range 2 { // it keeps them
		var w strings.Builder
		n, err := b.WriteTo(&w)
		require.NoError(t, err)
		assert.EqualValues(t, len(data), n)
		assert.Equal(t, data, w.String())
	}
	boom := errors.New("boom")
	for _, row := range []struct {
		count int
		err   error
		n     int64
		want  string
	}{
		{7, nil, 7, io.ErrShortWrite.Error()},
		{7, boom, 7, "boom"},
		{-1, nil, 0, "the writer returned a count of -1"},
		{len(data) + 1, nil, 0, "the writer returned a count of"},
	} {
		n, err := b.WriteTo(readerFunc(func([]byte) (int, error) { return row.count, row.err }))
		assert.ErrorContains(t, err, row.want)
		assert.Equal(t, row.n, n)
	}
}

func TestBufferClosed(t *testing.T) {
	var b shm.Buffer
	must(b.WriteString("x"))
	addr := uintptr(unsafe.Pointer(&b.Bytes()[0]))
	require.NoError(t, b.Close())
	assert.False(t, holds(addr, 'x'))
	_, writeErr := b.Write([]byte("y"))
	_, emptyErr := b.Write(nil)
	_, stringErr := b.WriteString("y")
	_, fromErr := b.ReadFrom(strings.NewReader("y"))
	_, toErr := b.WriteTo(io.Discard)
	for _, err := range []error{writeErr, emptyErr, stringErr, b.WriteByte('y'), fromErr, toErr,
		b.Truncate(0), b.Grow(1), b.Close()} {
		assert.ErrorIs(t, err, shm.ErrClosed)
	}
	b.Reset()
	assert.Nil(t, b.Bytes())
	assert.Zero(t, b.Len()+b.Cap())
}

func TestBufferRefusedLeavesAllAsItWas(t *testing.T) {
	needWideInt(t)
	var b shm.Buffer
	defer b.Close()
	must(b.WriteString("kept"))
	addr, room := &b.Bytes()[0], b.Cap()
	for _, n := range []int{-1, math.MinInt, math.MaxInt, math.MaxInt - 3} {
		assert.ErrorIs(t, b.Grow(n), shm.ErrRange, "%d", n)
	}
	for _, n := range []int{math.MaxInt - 4, math.MaxInt - 4 - page, 1 << (strconv.IntSize - 2)} {
		var e *os.SyscallError
		if assert.ErrorAs(t, b.Grow(n), &e, "%d", n) {
			assert.Equal(t, "mremap", e.Syscall)
		}
	}
	assert.Same(t, addr, &b.Bytes()[0])
	assert.Equal(t, room, b.Cap())
	assert.Equal(t, "kept", string(b.Bytes()))
}

// Where doubling is more than there is, what is needed is had.
func TestBufferGrowsByWhatIsNeededAtTheLimit(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	var b shm.Buffer
	require.NoError(t, b.Grow(256<<20))
	must(b.WriteString("kept"))
	used := 0
	for _, field := range strings.Fields(string(must(os.ReadFile("/proc/self/statm"))))[:1] {
		used = must(strconv.Atoi(field)) * page
	}
	limit := unix.Rlimit{Cur: uint64(used + 128<<20), Max: uint64(used + 128<<20)}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &limit))
	require.NoError(t, b.Grow(256<<20+1<<20))
	assert.Equal(t, 256<<20+1<<20+page, b.Cap())
	assert.ErrorIs(t, b.Grow(1<<30), unix.ENOMEM)
	assert.Equal(t, "kept", string(b.Bytes()))
}

func TestBufferUnreachableIsUnmapped(t *testing.T) {
	addr := func() uintptr {
		b := new(shm.Buffer)
		// The buffer has grown: the cleanup must know the last address.
		must(b.Write(bytes.Repeat([]byte{0xA5}, 200<<10)))
		return uintptr(unsafe.Pointer(&b.Bytes()[0]))
	}()
	assert.True(t, eventually(func() bool {
		runtime.GC()
		return !holds(addr, 0xA5)
	}))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error)  { return f(p) }
func (f readerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBufferFaultIsAnError(t *testing.T) {
	newBuffer := func(t *testing.T) (b *shm.Buffer, data []byte, bad unsafe.Pointer) {
		b = new(shm.Buffer)
		t.Cleanup(func() { b.Close() })
		data = bytes.Repeat([]byte("0123456789abcdef"), 2*page/16)
		must(b.Write(data))
		require.NoError(t, b.Grow(2*page))
		bad = unsafe.Add(unsafe.Pointer(unsafe.SliceData(b.Bytes())), 2*page)
		require.NoError(t, unix.Mprotect(unsafe.Slice((*byte)(bad), page), unix.PROT_NONE))
		require.NoError(t, b.Truncate(2*page-100))
		return b, data[:2*page-100], bad
	}
	t.Run("Write", func(t *testing.T) {
		b, data, bad := newBuffer(t)
		n, err := b.Write(make([]byte, 300))
		assertFault(t, err, "write", bad)
		assert.Equal(t, 100, n)
		assert.Equal(t, append(data, make([]byte, 100)...), b.Bytes())
		assertFault(t, b.WriteByte('x'), "write", bad)
		_, err = b.WriteString("x")
		assertFault(t, err, "write", bad)
		assert.Equal(t, 2*page, b.Len())
	})
	t.Run("Source", func(t *testing.T) {
		_, _, bad := newBuffer(t)
		var b shm.Buffer
		defer b.Close()
		n, err := b.Write(unsafe.Slice((*byte)(unsafe.Add(bad, -10)), 20))
		assertFault(t, err, "write", bad)
		assert.Equal(t, 10, n)
		assert.Equal(t, 10, b.Len())
	})
	t.Run("ReadFrom", func(t *testing.T) {
		b, data, bad := newBuffer(t)
		n, err := b.ReadFrom(strings.NewReader(strings.Repeat("x", 1000)))
		assertFault(t, err, "read into", bad)
		assert.EqualValues(t, 100, n)
		assert.Equal(t, append(data, strings.Repeat("x", 100)...), b.Bytes())
	})
	t.Run("WriteTo", func(t *testing.T) {
		b, data, bad := newBuffer(t)
		require.NoError(t,
			unix.Mprotect(unsafe.Slice((*byte)(unsafe.Add(bad, -page)), page), unix.PROT_NONE))
		for _, w := range []io.Writer{new(bytes.Buffer), pipe(t)} {
			n, err := b.WriteTo(w)
			assertFault(t, err, "write out", unsafe.Add(bad, -page))
			assert.EqualValues(t, page, n)
		}
		assert.Equal(t, len(data), b.Len())
	})
	t.Run("Grow", func(t *testing.T) {
		// Memory that mprotect split moves all the same, and stays protected.
		b, data, _ := newBuffer(t)
		require.NoError(t, b.Grow(1<<30))
		assert.Equal(t, data, b.Bytes())
		n, err := b.Write(make([]byte, 300))
		assertFault(t, err, "write",
			unsafe.Add(unsafe.Pointer(unsafe.SliceData(b.Bytes())), 2*page))
		assert.Equal(t, 100, n)
	})
}

// What another's code does is its own affair.
func TestBufferLeavesPanicsOfOthersAlone(t *testing.T) {
	boom := errors.New("boom")
	for _, row := range []struct {
		name string
		do   func()
		want func(t *testing.T, e any)
	}{
		{"Error", func() { panic(boom) }, func(t *testing.T, e any) { assert.Equal(t, boom, e) }},
		{"Nil", func() { panic(nil) },
			func(t *testing.T, e any) { assert.IsType(t, new(runtime.PanicNilError), e) }},
		{"NilPointer", func() { var p *int; sink = uint64(*p) },
			func(t *testing.T, e any) { assert.ErrorContains(t, e.(error), "nil pointer") }},
	} {
		t.Run(row.name, func(t *testing.T) {
			var b shm.Buffer
			defer b.Close()
			must(b.WriteString("kept"))
			other := readerFunc(func([]byte) (int, error) { row.do(); return 0, io.EOF })
			for _, call := range []func(){func() { b.ReadFrom(other) },
				func() { b.WriteTo(other) }} {
				func() {
					defer func() { row.want(t, recover()) }()
					call()
					assert.Fail(t, "no panic")
				}()
				assert.False(t, debug.SetPanicOnFault(false))
			}
			assert.Equal(t, "kept", string(b.Bytes()))
		})
	}
	t.Run("Goexit", func(t *testing.T) {
		var b shm.Buffer
		defer b.Close()
		returned, done := false, make(chan struct{})
		go func() {
			defer close(done)
			b.ReadFrom(readerFunc(func([]byte) (int, error) { runtime.Goexit(); return 0, nil }))
			returned = true
		}()
		<-done
		assert.False(t, returned)
	})
	t.Run("NilOfOldPrograms", func(t *testing.T) {
		t.Setenv("GODEBUG", "panicnil=1")
		var b shm.Buffer
		defer b.Close()
		returned := false
		func() {
			defer func() { assert.Nil(t, recover()) }()
			b.ReadFrom(readerFunc(func([]byte) (int, error) { panic(nil) }))
			returned = true
		}()
		assert.False(t, returned)
	})
}

// The most memory that the process ever had is little more than the data.
func TestBufferPeakMemory(t *testing.T) {
	const size = 64 << 20
	if buildSetting("-msan") == "true" {
		t.Skip("MemorySanitizer has a byte for each byte")
	}
	if !inOwnProcess(t, nil) {
		return
	}
	withoutHugePages(t)
	chunk := bytes.Repeat([]byte{1}, 32<<10)
	runtime.GC()
	before := memoryStatus(t, "VmRSS")
	var b shm.Buffer
	for b.Len() < size {
		must(b.Write(chunk))
	}
	peak := memoryStatus(t, "VmHWM")
	assert.LessOrEqual(t, peak-before, size+size/20)
	assert.GreaterOrEqual(t, peak-before, size-size/20, "the measure itself")
	assert.Equal(t, byte(1), b.Bytes()[size-1])
	runtime.KeepAlive(&b)
}

// withoutHugePages has this process get none unasked, whatever the machine's
// setting: they are more than was written to.
func withoutHugePages(t *testing.T) {
	require.NoError(t, unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0))
}

func memoryStatus(t *testing.T, field string) int {
	_, rest, ok := strings.Cut(string(must(os.ReadFile("/proc/self/status"))), field+":")
	require.True(t, ok)
	return must(strconv.Atoi(strings.Fields(rest)[0])) << 10
}

// FuzzBuffer holds a Buffer against a bytes.Buffer, after every step.
func FuzzBuffer(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 255, 1, 7, 2, 200, 3, 100, 4, 0, 5, 255, 6, 0, 0, 90})
	f.Add([]byte("write, read from, truncate, grow, reset, itself: any bytes will do"))
	f.Add(bytes.Repeat([]byte{6, 0, 0, 200}, 12))
	f.Fuzz(func(t *testing.T, ops []byte) {
		var b shm.Buffer
		defer b.Close()
		var want bytes.Buffer
		for ; len(ops) >= 2 && want.Len() < 1<<22; ops = ops[2:] {
			n := int(ops[1]) * int(ops[1])
			data := bytes.Repeat(ops[:2], n)
			switch ops[0] % 8 {
			case 0:
				n, err := b.Write(data)
				require.NoError(t, err)
				require.Equal(t, must(want.Write(data)), n)
			case 1:
				n, err := b.WriteString(string(data))
				require.NoError(t, err)
				require.Equal(t, must(want.Write(data)), n)
			case 2:
				require.NoError(t, b.WriteByte(ops[1]))
				want.WriteByte(ops[1])
			case 3:
				n, err := b.ReadFrom(iotest.HalfReader(bytes.NewReader(data)))
				require.NoError(t, err)
				require.Equal(t, must(want.ReadFrom(bytes.NewReader(data))), n)
			case 4:
				n = want.Len() * int(ops[1]) / 255
				require.NoError(t, b.Truncate(n))
				want.Truncate(n)
			case 5:
				require.NoError(t, b.Grow(n))
				require.GreaterOrEqual(t, b.Cap()-b.Len(), n)
			case 6:
				must(b.Write(b.Bytes()))
				want.Write(bytes.Clone(want.Bytes()))
			case 7:
				if n%2 == 0 {
					b.Reset()
					want.Reset()
				}
				var out bytes.Buffer
				n, err := b.WriteTo(&out)
				require.NoError(t, err)
				require.EqualValues(t, want.Len(), n)
				require.True(t, bytes.Equal(want.Bytes(), out.Bytes()))
			}
			require.Equal(t, want.Len(), b.Len())
			require.True(t, bytes.Equal(want.Bytes(), b.Bytes()))
		}
	})
}
