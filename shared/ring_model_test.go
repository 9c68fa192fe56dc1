//go:build linux && cgo

package shared_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// ringModel is what a ring should be, as simply as possible. Its methods return what a child's acts
// return.
type ringModel struct {
	records          []int // the lengths that were committed and not released
	at               int   // where the producer writes next, from 0 up to the capacity
	sizes            []int // what each record takes, with what was left out before it
	used             int
	reserved, peeked int // the length, or -1
	closed           [2]bool
}

const ringCapacity = sharedc.RingBytes - shared.RingHeaderSize

func (r *ringModel) takes(n int) (size, skip int) {
	size = 8 + (n+7)/8*8
	if rest := ringCapacity - r.at; rest < size {
		skip = rest
	}
	return size, skip
}

func (r *ringModel) reserve(n int) unix.Errno {
	switch size, skip := r.takes(n); {
	case size > ringCapacity/2:
		return unix.EMSGSIZE
	case r.closed[0]:
		return unix.EPIPE
	case r.closed[1]:
		r.reserved = -1
		return unix.EPIPE
	case r.used+skip+size > ringCapacity:
		r.reserved = -1
		return unix.ETIMEDOUT
	}
	r.reserved = n
	return 0
}

func (r *ringModel) commit() unix.Errno {
	if r.reserved < 0 {
		return unix.EPERM
	}
	size, skip := r.takes(r.reserved)
	r.records, r.sizes = append(r.records, r.reserved), append(r.sizes, size+skip)
	r.used += size + skip
	r.at += size
	if skip > 0 {
		r.at = size
	}
	r.at %= ringCapacity
	r.reserved = -1
	return 0
}

func (r *ringModel) peek() int {
	r.peeked = -1
	switch {
	case r.closed[1]:
		return -int(unix.EPIPE)
	case len(r.records) > 0:
		r.peeked = r.records[0]
		return r.peeked
	case r.closed[0]:
		return -int(unix.EPIPE)
	}
	return -int(unix.ETIMEDOUT)
}

func (r *ringModel) release() unix.Errno {
	if r.peeked < 0 {
		return unix.EPERM
	}
	r.used -= r.sizes[0]
	r.records, r.sizes, r.peeked = r.records[1:], r.sizes[1:], -1
	return 0
}

func (r *ringModel) close(end int) {
	r.closed[end] = true
	if end == 0 {
		r.reserved = -1
	} else {
		r.peeked = -1
	}
}

func (r *ringModel) act(what int32) int {
	switch what % timed {
	case sharedc.RingReserve:
		return int(r.reserve(int(what / sharedc.RingLengthUnit)))
	case commit:
		return int(r.commit())
	case peek:
		return r.peek()
	case release:
		return int(r.release())
	case closeP:
		r.close(0)
	case closeC:
		r.close(1)
	}
	return 0
}

// errnoOf returns the errno value that C has for an error.
func errnoOf(err error) int {
	switch {
	case err == nil:
		return 0
	case err == io.EOF, err == io.ErrClosedPipe:
		return int(unix.EPIPE)
	case err == shared.ErrNotHeld:
		return int(unix.EPERM)
	case errors.Is(err, shm.ErrRange):
		return int(unix.EMSGSIZE)
	case err == canceled().Err():
		return int(unix.ETIMEDOUT)
	}
	panic(err)
}

// actInGo does what child_ring_acts does.
func actInGo(t *testing.T, r *shared.Ring, what int32) int {
	switch what % timed {
	case sharedc.RingReserve:
		n := int(what / sharedc.RingLengthUnit)
		buf, err := r.Reserve(canceled(), n)
		copy(buf, bytes.Repeat([]byte{byte(n)}, n))
		return errnoOf(err)
	case commit:
		return errnoOf(r.Commit())
	case peek:
		rec, err := r.Peek(canceled())
		if err != nil {
			return -errnoOf(err)
		}
		require.Equal(t, bytes.Repeat([]byte{byte(len(rec))}, len(rec)), append([]byte{}, rec...))
		return len(rec)
	case release:
		return errnoOf(r.Release())
	case closeP:
		return errnoOf(r.CloseWrite())
	case closeC:
		return errnoOf(r.CloseRead())
	}
	return 0
}

// randomActs returns acts at both ends of a ring.
func randomActs(n int) []int32 {
	acts := []int32{openP, openC}
	for len(acts) < n {
		switch x := rand.IntN(100); {
		case x < 30:
			acts = append(acts, reserve(int32(rand.IntN(1<<rand.IntN(12))))|timed, commit)
		case x < 60:
			acts = append(acts, peek|timed, release)
		default:
			all := []int32{reserve(int32(rand.IntN(2000))) | timed, reserve(1880) | timed, commit, peek | timed, release}
			acts = append(acts, all[rand.IntN(len(all))])
		}
		if rand.IntN(80) == 0 {
			acts = append(acts, []int32{closeP, closeC}[rand.IntN(2)])
		}
	}
	return acts[:n]
}

// Whatever is done at both ends, Go, C and the model have the same results.
func TestARingsHistoriesAreTheModels(t *testing.T) {
	m, a, _ := newRingArea(t, shm.DefaultTechnique())
	for history := range 400 {
		n, inC := 1000, history%8 == 0
		if inC {
			n = len(a.Act) - 1
		}
		r, acts := ringsAnew(t, m), randomActs(n)
		model := ringModel{reserved: -1, peeked: -1}
		var want, got []int
		for _, what := range acts {
			want, got = append(want, model.act(what)), append(got, actInGo(t, r, what))
		}
		require.Equal(t, want, got, "in Go: %v", acts)
		require.NoError(t, r.CloseRead())
		require.NoError(t, r.CloseWrite())
		if inC {
			ringsAnew(t, m)
			got = nil
			for _, result := range ringActs(t, m, a, acts...) {
				got = append(got, int(result))
			}
			require.Equal(t, want, got, "in C: %v", acts)
		}
	}
}
