//go:build linux && cgo

package shm_test

import (
	"io"
	"math"
	"math/big"
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

// FuzzAccess holds ReadAt, WriteAt, At and Slice against a plain byte slice.
func FuzzAccess(f *testing.F) {
	f.Add(uint16(100), int64(0), 8, []byte("hello"))
	f.Add(uint16(1), int64(-1), 0, []byte{})
	f.Add(uint16(4096), int64(4095), 1, []byte("xy"))
	f.Add(uint16(5000), int64(math.MaxInt64), math.MaxInt, []byte{1})
	f.Add(uint16(24), int64(8), 1<<(strconv.IntSize-3)+1, []byte{1, 2, 3})
	f.Add(uint16(9), int64(math.MinInt64), math.MinInt, []byte{9})
	f.Fuzz(func(t *testing.T, length uint16, off int64, n int, data []byte) {
		size := 1 + int(length)
		m := newMapping(t, shm.Private, size, nil)
		model := make([]byte, size)

		fits := off >= 0 && off <= int64(size)-int64(len(data))
		wrote, err := m.WriteAt(data, off)
		if fits {
			require.NoError(t, err)
			assert.Equal(t, copy(model[off:], data), wrote)
		} else {
			assert.ErrorIs(t, err, shm.ErrRange)
			assert.Zero(t, wrote)
		}
		assert.Equal(t, model, m.Bytes())

		p := make([]byte, len(data)+3)
		read, err := m.ReadAt(p, off)
		switch {
		case off < 0:
			assert.ErrorIs(t, err, shm.ErrRange)
		case off >= int64(size):
			assert.Equal(t, io.EOF, err)
		default:
			assert.Equal(t, model[off:min(int64(size), off+int64(len(p)))], p[:read])
			assert.Equal(t, read < len(p), err == io.EOF)
		}

		fuzzView[byte](t, m, int(off), n)
		fuzzView[uint16](t, m, int(off), n)
		fuzzView[uint64](t, m, int(off), n)
		fuzzView[point](t, m, int(off), n)
		fuzzView[[3]byte](t, m, int(off), n)
		fuzzView[struct{}](t, m, int(off), n)
	})
}

func fuzzView[T any](t *testing.T, m *shm.Mapping, off, n int) {
	var zero T
	align := int(unsafe.Alignof(zero))
	fits := func(n int) bool { // in numbers without end
		last := new(big.Int).Mul(big.NewInt(int64(n)), big.NewInt(int64(unsafe.Sizeof(zero))))
		last.Add(last, big.NewInt(int64(off)))
		return off >= 0 && n >= 0 && last.Cmp(big.NewInt(int64(m.Len()))) <= 0
	}
	check := func(err error, n int) {
		switch {
		case !fits(n):
			assert.ErrorIs(t, err, shm.ErrRange)
		case off%align != 0:
			assert.ErrorIs(t, err, shm.ErrAlign)
		default:
			assert.NoError(t, err)
		}
	}
	p, err := shm.At[T](m, off)
	check(err, 1)
	if err == nil {
		assert.Equal(t, unsafe.Add(m.Addr(), off), unsafe.Pointer(p))
		*p = zero // it is mapped
	}
	s, err := shm.Slice[T](m, off, n)
	check(err, n)
	if err == nil {
		assert.Len(t, s, n)
		assert.Equal(t, n, cap(s))
		if n > 0 {
			s[0], s[n-1] = zero, zero
		}
	}
}

// model is what a mapping should hold, as plain bytes: all its pages, and of a
// shared one those that it was shrunk by.
type model struct {
	sharing shm.Sharing
	length  int
	bytes   []byte
}

func wholePages(length int) int { return (length + page - 1) &^ (page - 1) }

// FuzzSequence runs a sequence of map, resize, move, write and close over four
// mappings, and holds them against the model after every step.
func FuzzSequence(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("map, resize, move, write, close: any bytes will do, the longer the better"))
	// One mapping, resized
	f.Add([]byte{0, 0, 10, 3, 0, 0, 1, 0, 20, 3, 0, 9, 1, 0, 2, 1, 0, 30, 4, 0, 0})
	// Shared
	f.Add([]byte{0, 1, 40, 3, 1, 7, 1, 1, 3, 1, 1, 40, 3, 1, 200, 1, 1, 90, 4, 1, 0})
	// Moved
	f.Add([]byte{0, 0, 33, 0, 1, 44, 0, 2, 55, 3, 0, 1, 3, 1, 2, 3, 2, 3, 2, 0, 1, 2, 2, 0, 2,
		0, 0})
	// Closed
	f.Add([]byte{0, 3, 255, 3, 3, 255, 1, 3, 1, 1, 3, 255, 5, 3, 254, 2, 3, 3, 4, 3, 0, 4, 3, 0, 1,
		3, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var mappings [4]*shm.Mapping
		var models [4]*model
		for ; len(ops) >= 3; ops = ops[3:] {
			i := int(ops[1] % 4)
			m, want := mappings[i], models[i]
			length := 1 + int(ops[2])*211 // to 13 pages
			switch op := ops[0] % 6; {
			case op == 0 || m == nil:
				sharing := shm.Sharing(1 + i%2)
				mappings[i] = newMapping(t, sharing, length,
					&shm.Config{Technique: shm.Technique(1 + i/2)})
				models[i] = &model{sharing, length, make([]byte, wholePages(length))}
				if m != nil && want != nil {
					require.NoError(t, m.Close())
				}
			case want == nil: // closed
				assert.ErrorIs(t, m.Resize(length, shm.MayMove), shm.ErrClosed)
				assert.ErrorIs(t, m.Close(), shm.ErrClosed)
			case op == 1 || op == 5:
				want.resize(t, m, length, shm.Move(op%5))
			case op == 2:
				j := int(ops[2] % 4)
				switch err := m.MoveTo(or(mappings[j], m)); {
				case mappings[j] == nil || i == j:
					assert.ErrorIs(t, err, unix.EINVAL)
				case models[j] == nil:
					assert.ErrorIs(t, err, shm.ErrClosed)
				case wholePages(want.length) > wholePages(models[j].length):
					assert.ErrorIs(t, err, shm.ErrRange)
				default:
					assert.NoError(t, err)
					models[j] = nil
				}
			case op == 3:
				data := []byte{ops[2], 1, 2, 3}
				off := int(ops[2]) * want.length / 256
				if _, err := m.WriteAt(data, int64(off)); off+4 <= want.length {
					require.NoError(t, err)
					copy(want.bytes[off:], data)
				} else {
					assert.ErrorIs(t, err, shm.ErrRange)
				}
			case op == 4:
				require.NoError(t, m.Close())
				models[i] = nil
			}
			for i, m := range mappings {
				if m == nil {
					continue
				}
				if models[i] == nil {
					require.Nil(t, m.Bytes())
					continue
				}
				require.Equal(t, models[i].bytes[:models[i].length], m.Bytes())
			}
		}
	})
}

func or(a, b *shm.Mapping) *shm.Mapping {
	if a != nil {
		return a
	}
	return b
}

func (want *model) resize(t *testing.T, m *shm.Mapping, length int, move shm.Move) {
	addr := m.Addr()
	err := m.Resize(length, move)
	switch {
	case want.sharing == shm.Shared && length > len(want.bytes):
		assert.ErrorIs(t, err, shm.ErrGrowShared)
		return
	case err != nil: // only for want of room
		assert.ErrorIs(t, err, unix.ENOMEM)
		assert.Equal(t, shm.InPlace, move)
		assert.Greater(t, length, want.length)
		return
	}
	if move == shm.InPlace || length <= want.length {
		assert.Equal(t, addr, m.Addr())
	}
	if want.sharing == shm.Private {
		kept := want.bytes[:min(len(want.bytes), wholePages(length))]
		want.bytes = make([]byte, wholePages(length))
		copy(want.bytes, kept)
	}
	want.length = length
}
