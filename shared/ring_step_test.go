//go:build linux && cgo

package shared_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// traceRing forks a child that acts at a ring, and returns when the child has stopped for the first
// time.
func traceRing(t *testing.T, m *shm.Mapping, a *sharedc.RingArea, acts ...int32) *tracee {
	a.Act, a.Result = [40]int32{}, [40]int32{}
	atomic.StoreUint32(&a.Done, 0)
	copy(a.Act[:], append([]int32{ringTrace}, acts...))
	return traceChild(t, m, sharedc.RingActs)
}

// canceled is a context that has ended: calls with it do not wait.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(background)
	cancel()
	return ctx
}

// drain returns the lengths of the records that are there, and the error behind them.
func drain(t *testing.T, ctx context.Context, r *shared.Ring) (lengths []int, err error) {
	for {
		rec, err := r.Peek(ctx)
		if err != nil {
			return lengths, err
		}
		for _, b := range rec {
			require.Equal(t, byte(len(rec)), b, "a record is whole")
		}
		lengths = append(lengths, len(rec))
		require.NoError(t, r.Release())
	}
}

// ringsAnew makes the rings anew.
func ringsAnew(t *testing.T, m *shm.Mapping) *shared.Ring {
	clear(m.Bytes()[sharedc.RingOffset:])
	r, err := shared.NewRing(m, sharedc.RingOffset, sharedc.RingBytes)
	require.NoError(t, err)
	return r
}

// A child is killed while it becomes the producer, reserves, commits and closes, and a goroutine waits
// for its records. The goroutine gets those that were committed, whole, and is told of the end.
func TestAProducerIsKilledAtEachInstruction(t *testing.T) {
	m, a, _ := newRingArea(t, shm.DefaultTechnique())
	held, owners := shared.Held(), ownersNow()
	last := 0
	atEach(t, func(n int) bool {
		r := ringsAnew(t, m)
		// The second record, of 1000 bytes, begins at offset 0 and leaves out the end of the ring.
		c := traceRing(t, m, a, openP, reserve(1800), commit, reserve(1300), commit, ringStop,
			openP, reserve(20), commit, reserve(1000), commit, closeP, ringStop)
		before, err := drain(t, canceled(), r)
		require.Equal(t, []int{1800, 1300}, before)
		require.Equal(t, context.Canceled, err)
		var got []int
		done := make(chan error)
		go func() {
			lengths, err := drain(t, background, r)
			got = lengths
			done <- err
		}()
		_, stopped := c.step(n)
		c.kill()
		err = <-done
		if err != io.EOF || !stopped {
			require.Contains(t, []error{io.EOF, c.p.Wait(background)}, err)
		}
		assert.Equal(t, []int{20, 1000}[:len(got)], append([]int{}, got...))
		last = len(got)
		require.Equal(t, owners, shared.Owners())
		require.NoError(t, r.CloseRead())
		require.Equal(t, held, shared.Held())
		return stopped
	})
	assert.Equal(t, 2, last)
}

// A child is killed while it becomes the producer or the consumer for the first time. The other end is
// told so once the child has named the ring in its slot.
func TestAChildIsKilledAtEachInstructionOfBecomingAnEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		open int32
		end  func(r *shared.Ring) error
	}{
		{"producer", openP, func(r *shared.Ring) error { _, err := r.Peek(canceled()); return err }},
		{"consumer", openC, func(r *shared.Ring) error {
			buf, err := r.Reserve(canceled(), 100)
			clear(buf)
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, a, _ := newRingArea(t, shm.DefaultTechnique())
			owners := ownersNow()
			atEach(t, func(n int) bool {
				r := ringsAnew(t, m)
				child := traceRing(t, m, a, ringStop, c.open, ringStop)
				_, stopped := child.step(n)
				child.kill()
				if err := c.end(r); err != nil && err != context.Canceled || stopped {
					require.Equal(t, child.p.Wait(background), err)
				}
				require.Equal(t, owners, shared.Owners())
				return stopped
			})
		})
	}
}

// A child is killed while it reads, and a goroutine waits for room. The goroutine gets the room, or is
// told of the end.
func TestAConsumerIsKilledAtEachInstruction(t *testing.T) {
	m, a, _ := newRingArea(t, shm.DefaultTechnique())
	owners := ownersNow()
	rooms := 0
	atEach(t, func(n int) bool {
		r := ringsAnew(t, m)
		child := traceRing(t, m, a, openC, ringStop, openC, peek, release, peek, release, closeC, ringStop)
		for range 2 {
			buf, err := r.Reserve(background, 1880)
			require.NoError(t, err)
			for i := range buf {
				buf[i] = 1880 % 256
			}
			require.NoError(t, r.Commit())
		}
		done := make(chan error)
		go func() {
			_, err := r.Reserve(background, 1880)
			done <- err
		}()
		_, stopped := child.step(n)
		child.kill()
		switch err := <-done; err {
		case nil:
			rooms++
		case io.ErrClosedPipe:
		default:
			require.Equal(t, child.p.Wait(background), err)
		}
		_, err := r.Reserve(background, 0)
		require.Error(t, err)
		require.Equal(t, owners, shared.Owners())
		return stopped
	})
	assert.Positive(t, rooms)
}

// A child is killed while it waits for a record or for room, and while it is woken.
func TestAChildIsKilledAtEachInstructionOfWaitingAtARing(t *testing.T) {
	for _, c := range []struct {
		name string
		acts []int32
		end  func(r *shared.Ring) error
	}{
		{"for a record", []int32{openC, ringStop, peek | timed, ringStop},
			func(r *shared.Ring) error { _, err := r.Reserve(canceled(), 8); return err }},
		{"for room", []int32{openP, reserve(1880), commit, reserve(1880), commit, ringStop, reserve(1880) | timed, ringStop},
			func(r *shared.Ring) error {
				lengths, err := drain(t, canceled(), r)
				assert.Equal(t, []int{1880, 1880}, lengths)
				return err
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, a, _ := newRingArea(t, shm.DefaultTechnique())
			owners := ownersNow()
			atEach(t, func(n int) bool {
				r := ringsAnew(t, m)
				child := traceRing(t, m, a, c.acts...)
				_, stopped := child.step(n)
				child.kill()
				require.Equal(t, child.p.Wait(background), c.end(r))
				require.Equal(t, owners, shared.Owners())
				return stopped
			})
		})
	}
}

// ownersNow returns how many slots are taken, with this process's.
func ownersNow() int {
	_ = shared.Held() // takes this process's slot
	return shared.Owners()
}
