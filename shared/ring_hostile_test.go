//go:build linux && cgo

package shared_test

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/internal/testenv"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// useRing makes all calls of both ends of a ring, which end whatever its bytes are, and checks that no
// slice leaves the ring.
func useRing(t *testing.T, m *shm.Mapping, r *shared.Ring) func(ctx context.Context) {
	first := uintptr(m.Addr()) + sharedc.RingOffset + shared.RingHeaderSize
	last := first + sharedc.RingBytes - shared.RingHeaderSize
	check := func(p []byte, err error) {
		if err == nil && len(p) > 0 {
			at := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
			assert.True(t, at >= first && at+uintptr(cap(p)) <= last && len(p) == cap(p))
			clear(p)
		}
	}
	p := make([]byte, sharedc.RingBytes)
	return func(ctx context.Context) {
		for _, n := range []int{0, 1, 100, r.Max()} {
			check(r.Reserve(ctx, n))
			_ = r.Commit()
		}
		for range 3 {
			check(r.Peek(ctx))
			_ = r.Release()
			_, _ = r.Read(ctx, p)
		}
		_, _ = r.Writer(ctx).Write(p[:10])
		_, _ = r.Reader(ctx).Read(p)
	}
}

// Each byte of a ring that is not a record's is garbage in turn, and the length of the first record; then
// all bytes at once.
func TestGarbageInARing(t *testing.T) {
	briefly := useBriefly(t)
	m, _, _ := newRingArea(t, shm.DefaultTechnique())
	bytes := m.Bytes()[sharedc.RingOffset : sharedc.RingOffset+sharedc.RingBytes]
	for i := range shared.RingHeaderSize + 16 {
		r := ringsAnew(t, m)
		if rand.IntN(2) == 0 { // both ends are this process's, with a record between them
			send(t, r, []byte{1})
			receive(t, r)
			send(t, r, make([]byte, 300))
		}
		bytes[i] = []byte{0xff, byte(rand.Uint32())}[rand.IntN(2)]
		briefly(useRing(t, m, r))
	}
	for range 50 {
		r := ringsAnew(t, m)
		send(t, r, []byte{1})
		for i := range bytes {
			bytes[i] = byte(rand.Uint32())
		}
		briefly(useRing(t, m, r))
		_, err := shared.NewRing(m, sharedc.RingOffset, sharedc.RingBytes)
		assert.ErrorIs(t, err, shared.ErrKind)
	}
	r := ringsAnew(t, m)
	send(t, r, []byte("whole"))
	assert.Equal(t, "whole", string(receive(t, r)))
	require.NoError(t, r.CloseRead())
	require.NoError(t, r.CloseWrite())
}

// A child has written the position of an end that this process becomes later. The ring ends where its
// mapping does: nothing beyond is read or written.
func TestAChildHasWrittenTheOwnPosition(t *testing.T) {
	m := newMapping(t, 4096, shm.DefaultTechnique())
	capacity := uint64(4096 - shared.RingHeaderSize)
	for _, at := range []uint64{capacity - 1, capacity - 7, 4, math.MaxUint64} {
		for end := range 2 {
			clear(m.Bytes())
			r, err := shared.NewRing(m, 0, 4096)
			require.NoError(t, err)
			own, err := shm.At[uint64](m, 64+128*end)
			require.NoError(t, err)
			other, err := shm.At[uint64](m, 64+128*(1-end))
			require.NoError(t, err)
			*own, *other = at, at
			if end == 0 {
				_, err = r.Reserve(background, 1)
			} else {
				*other = at + 8
				_, err = r.Peek(background)
			}
			assert.Equal(t, shared.ErrOverwritten, err, "%d", at)
			require.NoError(t, r.CloseRead())
			require.NoError(t, r.CloseWrite())
		}
	}
}

// A hostile child writes garbage to a ring all the time that this process uses it.
func TestAChildWritesGarbageBesideARingsUse(t *testing.T) {
	briefly := useBriefly(t)
	m, a, _ := newRingArea(t, shm.DefaultTechnique())
	p, err := m.Fork(sharedc.Scribble, &shm.ForkConfig{KillWithParent: true})
	require.NoError(t, err)
	require.True(t, testenv.Eventually(func() bool { return atomic.LoadUint32(&a.Done) > 0 }))
	made := 0
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		clear(m.Bytes()[sharedc.RingOffset : sharedc.RingOffset+64])
		r, err := shared.NewRing(m, sharedc.RingOffset, sharedc.RingBytes)
		if err != nil {
			continue
		}
		made++
		use := useRing(t, m, r)
		for range 5 {
			briefly(use)
		}
		_, _ = r.CloseRead(), r.CloseWrite() // the child may have changed the ring's name
	}
	assert.Positive(t, made)
	require.NoError(t, p.Kill())
	require.Error(t, p.Wait(background))
	r := ringsAnew(t, m)
	send(t, r, []byte("whole"))
	assert.Equal(t, "whole", string(receive(t, r)))
	require.NoError(t, r.CloseRead())
	require.NoError(t, r.CloseWrite())
}

// A producer that commits empty records for ever does not keep a Reader from the end of its context.
func TestAReaderEndsWithItsContext(t *testing.T) {
	_, _, rings := newRingArea(t, shm.DefaultTechnique())
	for range 100 {
		send(t, rings[0], nil)
	}
	_, err := rings[0].Reader(canceled()).Read(make([]byte, 1))
	assert.Equal(t, context.Canceled, err)
}
