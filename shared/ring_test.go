//go:build linux && cgo

package shared_test

import (
	"bytes"
	"context"
	"errors"
	"io"
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
	"golang.org/x/sys/unix"
)

// newRingArea returns memory for children, and its two rings.
func newRingArea(t testing.TB, technique shm.Technique) (*shm.Mapping, *sharedc.RingArea, [2]*shared.Ring) {
	m := newMapping(t, int(unsafe.Sizeof(sharedc.RingArea{})), technique)
	a, err := shm.At[sharedc.RingArea](m, 0)
	require.NoError(t, err)
	return m, a, [2]*shared.Ring{newRing(t, m, sharedc.RingOffset), newRing(t, m, sharedc.RingOffset+sharedc.RingBytes)}
}

func newRing(t testing.TB, m *shm.Mapping, off int) *shared.Ring {
	r, err := shared.NewRing(m, off, sharedc.RingBytes)
	require.NoError(t, err)
	t.Cleanup(func() { // so that Held is 0 in other tests
		if r, err := shared.NewRing(m, off, sharedc.RingBytes); err == nil { // it may have moved
			_, _ = r.CloseRead(), r.CloseWrite()
		}
	})
	return r
}

// send commits a record.
func send(t testing.TB, r *shared.Ring, record []byte) {
	buf, err := r.Reserve(background, len(record))
	require.NoError(t, err)
	require.Len(t, buf, len(record))
	copy(buf, record)
	require.NoError(t, r.Commit())
}

// receive returns a copy of the next record.
func receive(t testing.TB, r *shared.Ring) []byte {
	rec, err := r.Peek(background)
	require.NoError(t, err)
	rec = bytes.Clone(rec)
	require.NoError(t, r.Release())
	return rec
}

// record returns the record i of an area, as child_ring_produce makes it.
func record(a *sharedc.RingArea, i uint32) []byte {
	rec := make([]byte, a.RingLength(i))
	for at := range rec {
		rec[at] = byte(i + uint32(at))
	}
	return rec
}

// produce commits what child_ring_produce does.
func produce(t testing.TB, r *shared.Ring, a *sharedc.RingArea) {
	for i := range a.Rounds {
		buf, err := r.Reserve(background, a.RingLength(i))
		if !assert.NoError(t, err) {
			return
		}
		copy(buf, record(a, i))
		assert.NoError(t, r.Commit())
	}
	assert.NoError(t, r.CloseWrite())
}

// consume checks what is committed.
func consume(t testing.TB, r *shared.Ring, a *sharedc.RingArea) {
	for i := range a.Rounds {
		rec, err := r.Peek(background)
		if !assert.NoError(t, err) || !assert.Equal(t, record(a, i), append([]byte{}, rec...), "%d", i) {
			return
		}
		assert.NoError(t, r.Release())
	}
	_, err := r.Peek(background)
	assert.Equal(t, io.EOF, err)
}

func TestARingCarriesRecords(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		for _, longest := range []uint32{0, 40, 1800} {
			area := func() (*shm.Mapping, *sharedc.RingArea, *shared.Ring) {
				m, a, rings := newRingArea(t, technique)
				a.Rounds, a.Longest = 500, longest
				return m, a, rings[0]
			}
			m, a, r := area() // from Go to C
			p := fork(t, m, sharedc.RingConsume, nil)
			produce(t, r, a)
			require.NoError(t, p.Wait(background))

			m, a, r = area() // from C to Go
			p = fork(t, m, sharedc.RingProduce, nil)
			consume(t, r, a)
			require.NoError(t, p.Wait(background))

			m, a, _ = area() // from C to C
			p = fork(t, m, sharedc.RingConsume, nil)
			require.NoError(t, fork(t, m, sharedc.RingProduce, nil).Wait(background))
			require.NoError(t, p.Wait(background))

			_, a, r = area() // from Go to Go
			done := make(chan struct{})
			go func() { defer close(done); produce(t, r, a) }()
			consume(t, r, a)
			<-done
		}
	})
}

// What a goroutine wrote to its own memory before Commit is seen after Peek: -race sees that.
func TestARingOrdersMemory(t *testing.T) {
	_, _, rings := newRingArea(t, shm.DefaultTechnique())
	r, inHeap := rings[0], 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 1000 {
			inHeap = i
			_, err := r.Reserve(background, r.Max()) // so that there is room for one
			assert.NoError(t, err)
			inHeap = i + 1
			assert.NoError(t, r.Commit())
			_, err = r.Reserve(background, r.Max())
			assert.NoError(t, err)
			_, err = r.Reserve(background, 0)
			assert.NoError(t, err)
			assert.NoError(t, r.Commit())
			for len(must(rings[1].Peek(background))) > 0 {
				assert.NoError(t, rings[1].Release())
			}
			assert.NoError(t, rings[1].Release())
		}
	}()
	for i := range 1000 {
		receive(t, r)
		assert.Equal(t, i+1, inHeap)
		receive(t, r)
		send(t, rings[1], nil)
	}
	<-done
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestARingAnswers(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		m, a, rings := newRingArea(t, technique)
		a.Longest = 1000
		p := fork(t, m, sharedc.RingEcho, nil)
		for i := range uint32(300) {
			send(t, rings[0], record(a, i))
			require.Equal(t, record(a, i), receive(t, rings[1]))
		}
		require.NoError(t, rings[0].CloseWrite())
		_, err := rings[1].Peek(background)
		require.Equal(t, io.EOF, err)
		require.NoError(t, p.Wait(background))
	})
}

func TestNewRingRefuses(t *testing.T) {
	m := newMapping(t, 8192, shm.DefaultTechnique())
	private, err := shm.Map(shm.Private, 4096, nil)
	require.NoError(t, err)
	defer private.Close()
	closed, err := shm.Map(shm.Shared, 4096, nil)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = shared.NewMutex(m, 4096)
	require.NoError(t, err)
	newRing(t, m, 0)
	for _, c := range []struct {
		m         *shm.Mapping
		off, size int
		err       error
	}{
		{m, 8, 1024, shm.ErrAlign}, {m, -64, 1024, shm.ErrAlign}, {m, 64, 1000, unix.EINVAL},
		{m, 64, 0, unix.EINVAL}, {m, 64, -64, unix.EINVAL}, {m, 64, 320, unix.EINVAL},
		{m, 4096 + 64, 4096, shm.ErrRange}, {m, 1 << 30, 4096, shm.ErrRange}, {m, 64, 1 << 30, shm.ErrRange},
		{m, 4096, 4096, shared.ErrKind}, {m, 0, 2048, unix.EINVAL},
		{private, 0, 4096, unix.EINVAL}, {closed, 0, 4096, shm.ErrClosed},
	} {
		_, err := shared.NewRing(c.m, c.off, c.size)
		assert.ErrorIs(t, err, c.err, "%+v", c)
		var e *shared.Error
		assert.ErrorAs(t, err, &e)
	}
	r, err := shared.NewRing(m, 4096+64, 320+64)
	require.NoError(t, err)
	assert.Equal(t, 24, r.Max())
	defer func() { _, _ = r.CloseRead(), r.CloseWrite() }()
	for _, n := range []int{-1, 25} {
		_, err := r.Reserve(background, n)
		assert.ErrorIs(t, err, shm.ErrRange)
	}
	for range 10 {
		for n := range 25 {
			send(t, r, bytes.Repeat([]byte{byte(n)}, n))
			require.Equal(t, bytes.Repeat([]byte{byte(n)}, n), append([]byte{}, receive(t, r)...))
		}
	}
}

func TestRingInOneProcess(t *testing.T) {
	_, _, rings := newRingArea(t, shm.DefaultTechnique())
	r, held := rings[0], shared.Held()
	assert.Equal(t, shared.ErrNotHeld, r.Commit())
	assert.Equal(t, shared.ErrNotHeld, r.Release())
	ctx, cancel := context.WithTimeout(background, time.Millisecond)
	defer cancel()
	_, err := r.Peek(ctx)
	assert.Equal(t, context.DeadlineExceeded, err)
	_, err = r.Reserve(background, 100)
	require.NoError(t, err)
	buf, err := r.Reserve(background, 10) // gives up the first
	require.NoError(t, err)
	copy(buf, "0123456789")
	require.NoError(t, r.Commit())
	assert.Equal(t, shared.ErrNotHeld, r.Commit())
	for range 2 {
		rec, err := r.Peek(background)
		require.NoError(t, err)
		require.Equal(t, "0123456789", string(rec))
		assert.Equal(t, 10, cap(rec))
	}
	p := make([]byte, 9)
	n, err := r.Read(background, p)
	assert.Equal(t, io.ErrShortBuffer, err)
	assert.Equal(t, 10, n)
	p = make([]byte, 20)
	n, err = r.Read(background, p)
	require.NoError(t, err)
	assert.Equal(t, "0123456789", string(p[:n]))
	assert.Equal(t, shared.ErrNotHeld, r.Release())
	full := 0
	for ; ; full++ {
		if _, err = r.Reserve(ctx, 100); err != nil {
			break
		}
		require.NoError(t, r.Commit())
	}
	assert.Equal(t, context.DeadlineExceeded, err)
	assert.Equal(t, (sharedc.RingBytes-shared.RingHeaderSize)/112, full)
	require.NoError(t, r.CloseWrite())
	require.NoError(t, r.CloseWrite())
	_, err = r.Reserve(background, 1)
	assert.Equal(t, io.ErrClosedPipe, err)
	assert.Equal(t, shared.ErrNotHeld, r.Commit())
	for range full {
		assert.Len(t, receive(t, r), 100)
	}
	_, err = r.Peek(background)
	assert.Equal(t, io.EOF, err)
	require.NoError(t, r.CloseRead())
	_, err = r.Peek(background)
	assert.Equal(t, io.ErrClosedPipe, err)
	assert.Equal(t, held, shared.Held())
}

// All Rings of a ring are one, and a ring is made anew by zeros.
func TestARingIsFoundAgain(t *testing.T) {
	m, _, rings := newRingArea(t, shm.DefaultTechnique())
	for i := range 500 {
		send(t, newRing(t, m, sharedc.RingOffset), []byte{byte(i)})
		require.Equal(t, []byte{byte(i)}, receive(t, newRing(t, m, sharedc.RingOffset)))
	}
	require.NoError(t, rings[0].CloseRead())
	_, err := rings[0].Reserve(background, 1)
	require.Equal(t, io.ErrClosedPipe, err)
	clear(m.Bytes()[sharedc.RingOffset:])
	r := newRing(t, m, sharedc.RingOffset)
	send(t, r, []byte("anew"))
	require.Equal(t, "anew", string(receive(t, r)))
	require.NoError(t, r.CloseRead())
	require.NoError(t, r.CloseWrite())
}

func TestClosingEndsAWait(t *testing.T) {
	_, _, rings := newRingArea(t, shm.DefaultTechnique())
	waiting := make(chan error)
	peek := func(r *shared.Ring) func() { return func() { _, err := r.Peek(background); waiting <- err } }
	go peek(rings[0])()
	require.NoError(t, rings[0].CloseWrite())
	assert.Equal(t, io.EOF, <-waiting)
	go peek(rings[1])()
	shared.AwaitClaimed(rings[1])
	require.NoError(t, rings[1].CloseRead())
	assert.Equal(t, io.ErrClosedPipe, <-waiting)
}

// ringActs has a child act, and returns the results.
func ringActs(t testing.TB, m *shm.Mapping, a *sharedc.RingArea, all ...int32) []int32 {
	a.Act, a.Result = [40]int32{}, [40]int32{}
	copy(a.Act[:], all)
	require.NoError(t, shm.Call(background, sharedc.RingActs, m, nil))
	return append([]int32{}, a.Result[:len(all)]...)
}

// pauseAfter forks a child that acts, and pauses.
func pauseAfter(t testing.TB, m *shm.Mapping, a *sharedc.RingArea, all ...int32) *shm.Process {
	a.Act, a.Result = [40]int32{}, [40]int32{}
	atomic.StoreUint32(&a.Done, 0)
	copy(a.Act[:], append(all, sharedc.RingPause))
	p, err := m.Fork(sharedc.RingActs, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Kill(); _ = p.Wait(background) })
	require.True(t, testenv.Eventually(func() bool { return atomic.LoadUint32(&a.Done) == uint32(len(all)) }))
	for i := range all {
		require.GreaterOrEqual(t, a.Result[i], int32(0), "%d", i)
	}
	return p
}

const (
	openP, openC    = int32(sharedc.RingOpenProducer), int32(sharedc.RingOpenConsumer)
	commit, release = int32(sharedc.RingCommit), int32(sharedc.RingRelease)
	closeP, closeC  = int32(sharedc.RingCloseProducer), int32(sharedc.RingCloseConsumer)
	peek, timed     = int32(sharedc.RingPeek), int32(sharedc.RingTimed)
	ringTrace       = int32(sharedc.RingTrace)
	ringStop        = int32(sharedc.RingStop)
)

// reserve is the act of reserving a record of n bytes.
func reserve(n int32) int32 { return sharedc.RingReserve + n*sharedc.RingLengthUnit }

// C gets what Go gets.
func TestRingInC(t *testing.T) {
	eperm, etimedout, epipe, ebusy := int32(unix.EPERM), int32(unix.ETIMEDOUT), int32(unix.EPIPE), int32(unix.EBUSY)
	for _, c := range []struct {
		name       string
		acts, want []int32
		before     func(r *shared.Ring)
	}{
		{"both ends", []int32{openP, openC, peek | timed, release, commit, reserve(3), commit, peek, peek, release, release},
			[]int32{0, 0, -etimedout, eperm, eperm, 0, 0, 3, 3, 0, eperm}, nil},
		{"again", []int32{openP, openC, reserve(9), commit, openP, reserve(7), commit, peek, openC, peek, release, openC, peek, release},
			[]int32{0, 0, 0, 0, 0, 0, 0, 9, 0, 9, 0, 0, 7, 0}, nil},
		{"full", []int32{openP, reserve(1880), commit, reserve(1880) | timed, reserve(1881) | timed, reserve(1872), commit, reserve(1) | timed},
			[]int32{0, 0, 0, 0, int32(unix.EMSGSIZE), 0, 0, etimedout}, nil},
		{"closed by the producer", []int32{openP, openC, reserve(5), commit, closeP, peek, release, peek, reserve(1), openP, closeP},
			[]int32{0, 0, 0, 0, 0, 5, 0, -epipe, epipe, epipe, 0}, nil},
		{"closed by the consumer", []int32{openP, openC, reserve(5), closeC, commit, reserve(1), peek, openC},
			[]int32{0, 0, 0, 0, 0, epipe, -epipe, epipe}, nil},
		{"taken", []int32{openP, openC}, []int32{ebusy, ebusy}, func(r *shared.Ring) {
			send(t, r, []byte{1})
			receive(t, r)
		}},
		{"closed by Go", []int32{openC, peek, release, peek}, []int32{0, 2, 0, -epipe}, func(r *shared.Ring) {
			send(t, r, []byte{2, 2})
			require.NoError(t, r.CloseWrite())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, a, rings := newRingArea(t, shm.DefaultTechnique())
			if c.before != nil {
				c.before(rings[0])
			}
			assert.Equal(t, c.want, ringActs(t, m, a, c.acts...))
		})
	}
}

// A process that ended is told of after what it had published.
func TestARingTellsThatTheOtherEndDied(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		m, a, rings := newRingArea(t, technique)
		p := pauseAfter(t, m, a, openP, reserve(3), commit, reserve(4), commit, reserve(5))
		_, err := rings[0].Reserve(background, 1)
		assert.Equal(t, shared.ErrTaken, err)
		assert.Equal(t, shared.ErrTaken, rings[0].CloseWrite())
		require.Equal(t, []byte{3, 3, 3}, receive(t, rings[0]))
		require.NoError(t, p.Kill()) // and nobody waits for the child
		require.Equal(t, []byte{4, 4, 4, 4}, receive(t, rings[0]))
		for range 2 {
			_, err := rings[0].Peek(background)
			require.Equal(t, p.Wait(background), err)
			var exit *shm.ExitError
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, unix.SIGKILL, exit.Status.Signal())
			assert.Equal(t, p.Pid(), exit.Pid)
		}

		clear(m.Bytes()[sharedc.RingOffset:]) // the consumer dies
		r := newRing(t, m, sharedc.RingOffset)
		p = pauseAfter(t, m, a, openC)
		send(t, r, []byte{1})
		waiting := make(chan error)
		go func() {
			_, err := r.Reserve(background, r.Max())
			for ; err == nil; _, err = r.Reserve(background, r.Max()) {
				assert.NoError(t, r.Commit())
			}
			waiting <- err
		}()
		require.NoError(t, p.Kill())
		require.Equal(t, p.Wait(background), <-waiting)
	})
}

func TestAChildThatExitsEndsTheRing(t *testing.T) {
	m, a, rings := newRingArea(t, shm.DefaultTechnique())
	ringActs(t, m, a, openP, reserve(6), commit)
	require.Len(t, receive(t, rings[0]), 6)
	_, err := rings[0].Peek(background)
	require.Equal(t, io.EOF, err)
	require.NoError(t, rings[0].CloseRead())

	clear(m.Bytes()[sharedc.RingOffset:])
	r := newRing(t, m, sharedc.RingOffset)
	ringActs(t, m, a, openC)
	_, err = r.Reserve(background, 1)
	require.Equal(t, io.ErrClosedPipe, err)
	assert.Equal(t, []int32{int32(unix.EBUSY), int32(unix.EPIPE)}, ringActs(t, m, a, openP, openC))
}

// C is told of the death of another child.
func TestRingInCTellsThatTheOtherEndDied(t *testing.T) {
	m, a, _ := newRingArea(t, shm.DefaultTechnique())
	p := pauseAfter(t, m, a, openP, reserve(3), commit)
	require.NoError(t, p.Kill())
	require.Error(t, p.Wait(background))
	assert.Equal(t, []int32{0, 3, 0, -int32(unix.EOWNERDEAD)}, ringActs(t, m, a, openC, peek, release, peek))
	clear(m.Bytes()[sharedc.RingOffset:])
	newRing(t, m, sharedc.RingOffset)
	p = pauseAfter(t, m, a, openC)
	require.NoError(t, p.Kill())
	require.Error(t, p.Wait(background))
	assert.Equal(t, []int32{0, int32(unix.EOWNERDEAD)}, ringActs(t, m, a, openP, reserve(3)))
}

func TestARingWatchesAChildThatDoesNotCome(t *testing.T) {
	m, a, rings := newRingArea(t, shm.DefaultTechnique())
	p := pauseAfter(t, m, a)
	_, err := rings[0].Reserve(background, 1)
	require.NoError(t, err)
	waiting := make(chan error)
	go func() { _, err := rings[0].Peek(background); waiting <- err }()
	rings[0].Watch(p)
	require.NoError(t, p.Kill())
	require.Equal(t, p.Wait(background), <-waiting)
	_, err = rings[0].Reserve(background, 1)
	require.Equal(t, p.Wait(background), err, "at once, although there is room")
	a.Act = [40]int32{}
	rings[1].Watch(fork(t, m, sharedc.RingActs, nil)) // exits
	go func() {
		_, err := rings[1].Reserve(background, 1)
		for ; err == nil; _, err = rings[1].Reserve(background, 1) {
			assert.NoError(t, rings[1].Commit())
		}
		waiting <- err
	}()
	require.Equal(t, io.ErrClosedPipe, <-waiting)
}

func TestARingIsAStream(t *testing.T) {
	m, _, rings := newRingArea(t, shm.DefaultTechnique())
	p := fork(t, m, sharedc.RingEcho, nil)
	sent := make([]byte, 100_000)
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	done := make(chan error)
	go func() {
		n, err := io.Copy(rings[0].Writer(background), bytes.NewReader(sent))
		assert.EqualValues(t, len(sent), n)
		done <- errors.Join(err, rings[0].CloseWrite())
	}()
	got, err := io.ReadAll(rings[1].Reader(background))
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.NoError(t, p.Wait(background))
	require.True(t, bytes.Equal(sent, got))
	_, err = rings[0].Writer(background).Write([]byte{1})
	assert.Equal(t, io.ErrClosedPipe, err)
}

// Children of each kind are at both ends. Nobody calls Wait before the end.
func TestEachKindOfChildHasARing(t *testing.T) {
	for _, f := range forkers {
		t.Run(f.name, func(t *testing.T) {
			m, a, rings := newRingArea(t, shm.DefaultTechnique())
			a.Longest = 1500
			p, err := f.fork(t, m, sharedc.RingEcho)
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			require.NoError(t, err)
			for i := range uint32(100) {
				send(t, rings[0], record(a, i))
				require.Equal(t, record(a, i), receive(t, rings[1]))
			}
			require.NoError(t, p.Kill())
			_, err = rings[1].Peek(background)
			require.Equal(t, p.Wait(background), err)
		})
	}
}

// A pool's child opens its ends in each call, and goes on.
func TestARingOfAPool(t *testing.T) {
	m, a, rings := newRingArea(t, shm.DefaultTechnique())
	pool, err := shm.NewPool(m, 1, nil)
	require.NoError(t, err)
	defer pool.Close()
	a.Act = [40]int32{openC, peek, release}
	for i := range 100 {
		send(t, rings[0], bytes.Repeat([]byte{byte(i)}, i))
		_, err := pool.Call(background, sharedc.RingActs, 0, m.Len())
		require.NoError(t, err)
		require.Equal(t, []int32{0, int32(i), 0}, a.Result[:3])
	}
	a.Act = [40]int32{openC, sharedc.RingPause}
	ctx, cancel := context.WithCancel(background)
	atomic.StoreUint32(&a.Done, 0)
	go func() {
		testenv.Eventually(func() bool { return atomic.LoadUint32(&a.Done) == 1 })
		cancel()
	}()
	_, err = pool.Call(ctx, sharedc.RingActs, 0, m.Len())
	require.ErrorIs(t, err, context.Canceled)
	_, err = rings[0].Reserve(background, 1)
	var exit *shm.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, unix.SIGKILL, exit.Status.Signal())
}
