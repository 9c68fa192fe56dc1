//go:build linux && cgo

package shm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

func notCalled([]byte) error { panic("not called") }

// number is the input of the functions that are given a number.
func number(n uint64) []byte { return binary.NativeEndian.AppendUint64(nil, n) }

func TestDoPassesBytesInAndOut(t *testing.T) {
	p := newPool(t, nil, 2, &shm.PoolConfig{MaxIn: 3*page + 1, MaxOut: 2 * page})
	for _, length := range []int{0, 1, 7, page, 2*page - 1, 2 * page} {
		in := bytes.Repeat([]byte("0123456789"), length/10+1)[:length]
		for _, work := range []shm.DoFunc{ctest.DoEcho, ctest.DoAppend} {
			if length > page && work == ctest.DoAppend { // byte by byte
				continue
			}
			out, err := p.Do(background, work, in)
			assert.NoError(t, err)
			assert.Equal(t, string(in), string(out))
			err = p.DoView(background, work, in, func(out []byte) error {
				assert.Equal(t, string(in), string(out))
				assert.Equal(t, length, cap(out))
				return nil
			})
			assert.NoError(t, err)
		}
	}
	// More than MaxOut the function is refused.
	_, err := p.Do(background, ctest.DoEcho, make([]byte, 2*page+1))
	var failed *shm.ResultError
	if assert.ErrorAs(t, err, &failed) {
		assert.Equal(t, &shm.ResultError{Pid: failed.Pid, Result: 1, Out: []byte{}}, failed)
	}
	// More than MaxIn the caller is refused.
	_, err = p.Do(background, ctest.DoEcho, make([]byte, 3*page+2))
	assert.ErrorIs(t, err, shm.ErrRange)
	assert.EqualError(t, err, fmt.Sprintf("shm: do %d bytes: PoolConfig.MaxIn is %d: out of range",
		3*page+2, 3*page+1))
	assert.Zero(t, p.Stats().Failed)
	assert.Zero(t, p.Stats().Restarts)
}

func TestDoSaysWhatTheFunctionReturned(t *testing.T) {
	p := newPool(t, nil, 1, nil)
	_, err := p.Do(background, ctest.DoFail, nil)
	var failed *shm.ResultError
	if assert.ErrorAs(t, err, &failed) {
		assert.Equal(t, -3, failed.Result)
		assert.Equal(t, "bad input", string(failed.Out))
		assert.EqualError(t, err,
			fmt.Sprintf("shm: do 0 bytes: child %d: the function returned -3", failed.Pid))
	}
	err = p.DoView(background, ctest.DoFail, nil, notCalled)
	assert.ErrorAs(t, err, new(*shm.ResultError))
	assert.Equal(t, shm.PoolStats{Calls: 2}, p.Stats(), "the child lives on")
}

func TestDoRefuses(t *testing.T) {
	p := newPool(t, nil, 1, nil)
	_, err := p.Do(background, nil, nil)
	assert.ErrorIs(t, err, unix.EINVAL)
	assert.ErrorIs(t, p.DoView(background, ctest.DoEcho, nil, nil), unix.EINVAL)
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, err = p.Do(ctx, ctest.DoEcho, nil)
	assert.ErrorIs(t, err, context.Canceled)
	require.NoError(t, p.Close())
	_, err = p.Do(background, ctest.DoEcho, []byte("in"))
	assert.EqualError(t, err, "shm: do: pool is closed")
	for _, cfg := range []shm.PoolConfig{{MaxIn: -1}, {MaxOut: -1}} {
		_, err := shm.NewPool(nil, 1, &cfg)
		assert.ErrorIs(t, err, unix.EINVAL)
	}
	const quarter = math.MaxInt / 4
	tooLarge := []shm.PoolConfig{{MaxIn: quarter + 1}, {MaxOut: quarter + 1}}
	if math.MaxInt > math.MaxInt32 { // a GiB, where there are 32 bits, can be had
		tooLarge = append(tooLarge, shm.PoolConfig{MaxIn: quarter, MaxOut: quarter})
	}
	for _, cfg := range tooLarge {
		_, err := shm.NewPool(nil, 1, &cfg)
		assert.ErrorIs(t, err, unix.ENOMEM)
	}
}

// Callers at the same time, of whom some lose their child.
func TestDoByManyCallers(t *testing.T) {
	leavesNothing(t)
	p := newPool(t, nil, 3, &shm.PoolConfig{RestartRate: 1e6, MaxIn: page, MaxOut: page})
	var callers sync.WaitGroup
	for g := range 8 {
		callers.Add(1)
		go func() {
			defer callers.Done()
			for i := range 60 {
				in := bytes.Repeat([]byte{byte(g)}, i+1)
				if i%20 == 10 {
					_, err := p.Do(background, ctest.DoCrash, in)
					var exit *shm.ExitError
					if assert.ErrorAs(t, err, &exit) {
						assert.Equal(t, unix.SIGSEGV, exit.Status.Signal())
					}
					continue
				}
				out, err := p.Do(background, ctest.DoEcho, in)
				assert.NoError(t, err)
				assert.Equal(t, in, out)
			}
		}()
	}
	callers.Wait()
	assert.Equal(t, uint64(24), p.Stats().Failed)
	require.NoError(t, p.Close())
}

// A child that ends half-way costs its call only. Its successor has a slot of its own.
func TestDoByAChildThatEndsHalfWay(t *testing.T) {
	leavesNothing(t)
	p := newPool(t, nil, 1, &shm.PoolConfig{RestartRate: 1e6})
	in := bytes.Repeat([]byte("in"), page)
	for range 3 {
		var exit *shm.ExitError
		_, err := p.Do(background, ctest.DoExit, in)
		if assert.ErrorAs(t, err, &exit) {
			assert.Zero(t, exit.Status)
		}
		_, err = p.Do(background, ctest.DoOver, in)
		if assert.ErrorAs(t, err, &exit) {
			assert.Equal(t, unix.SIGSEGV, exit.Status.Signal(), "behind the slot is a guard")
		}
		_, err = p.Do(background, ctest.DoBefore, in)
		if assert.ErrorAs(t, err, &exit) {
			assert.Equal(t, unix.SIGSEGV, exit.Status.Signal(), "and before it")
		}
		ctx, cancel := context.WithTimeout(background, 5*time.Millisecond)
		_, err = p.Do(ctx, ctest.DoPause, in)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()

		pid := must(p.Do(background, ctest.DoPid, nil))
		require.NoError(t, unix.Kill(int(binary.NativeEndian.Uint32(pid)), unix.SIGKILL))
		// The idle child is lost. Its successor does it.
		out, err := p.Do(background, ctest.DoEcho, in)
		assert.NoError(t, err)
		assert.Equal(t, in, out)
	}
	require.NoError(t, p.Close())
}

// A length that a child invents is an error, and no other call's.
func TestDoBoundsWhatAChildClaims(t *testing.T) {
	leavesNothing(t)
	p := newPool(t, nil, 1, &shm.PoolConfig{RestartRate: 1e6, MaxOut: page + 1})
	for _, claim := range []uint64{
		uint64(page) + 2, 2 * uint64(page), math.MaxInt32, math.MaxUint32, math.MaxInt64, math.MaxUint64,
	} {
		claim = uint64(uintptr(claim))
		_, err := p.Do(background, ctest.DoClaim, number(claim))
		assert.ErrorIs(t, err, shm.ErrRange)
		want := fmt.Sprintf("its answer has %d bytes, PoolConfig.MaxOut is %d", claim, page+1)
		assert.ErrorContains(t, err, want)
		err = p.DoView(background, ctest.DoClaim, number(claim), notCalled)
		assert.ErrorIs(t, err, shm.ErrRange)
	}
	// About its own bytes a child can lie.
	for _, claim := range []uint64{0, 1, uint64(page), uint64(page) + 1} {
		out, err := p.Do(background, ctest.DoClaim, number(claim))
		assert.NoError(t, err)
		assert.Len(t, out, int(claim))
	}
	require.NoError(t, p.Close())
}

// Whatever is in a child's struct shm_out, the parent's bytes come from the child's own slot.
func TestDoBoundsWhatAChildWritesToItsOut(t *testing.T) {
	leavesNothing(t)
	p := newPool(t, nil, 1, &shm.PoolConfig{RestartRate: 1e6, MaxOut: page})
	for _, value := range garbage {
		for word := range int(4 * unsafe.Sizeof(uintptr(0)) / 4) {
			in := make([]byte, 4*unsafe.Sizeof(uintptr(0)))
			binary.NativeEndian.PutUint32(in[4*word:], value)
			out, err := p.Do(background, ctest.DoDamage, in)
			if err != nil {
				assert.ErrorIs(t, err, shm.ErrRange)
				continue
			}
			assert.LessOrEqual(t, len(out), page)
		}
	}
	require.NoError(t, p.Close())
}

// A child reaches its own slot and control page, and the mapping, but no sibling's.
func TestSlotsAreOutOfReachOfSiblings(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 3, &shm.PoolConfig{RestartRate: 1e6, MaxIn: 3 * page, MaxOut: 4 * page})
	other := newPool(t, m, 2, nil)
	before := sharedBy(t, p)
	assert.Len(t, before, 3)
	for range 6 { // replaced children have one of their own, too
		_, err := p.Do(background, ctest.DoCrash, []byte("in"))
		assert.ErrorAs(t, err, new(*shm.ExitError))
	}
	assert.Len(t, sharedBy(t, p), 3)
	require.NoError(t, other.Close())
	require.NoError(t, p.Close())
}

// sharedBy has each child of a pool of three tell which memory it shares, and returns the slots.
func sharedBy(t *testing.T, p *shm.Pool) map[string]bool {
	t.Helper()
	slots := map[string]bool{}
	var all sync.WaitGroup
	var mu sync.Mutex
	ready := make(chan struct{}, 3)
	release := make(chan struct{})
	for range 3 {
		all.Add(1)
		go func() {
			defer all.Done()
			err := p.DoView(background, ctest.DoMaps, nil, func(out []byte) error { // keeps the child
				mine := 0
				for line := range strings.Lines(string(out)) {
					var start, end uintptr
					fmt.Sscanf(line, "%x-%x", &start, &end)
					if int(end-start) == 7*page {
						mine++
						mu.Lock()
						slots[line] = true
						mu.Unlock()
					}
				}
				assert.Equal(t, 1, mine, "%s", out)
				assert.Equal(t, 3, strings.Count(string(out), "\n"),
					"slot, control page, mapping: %s", out)
				ready <- struct{}{}
				<-release
				return nil
			})
			assert.NoError(t, err)
		}()
	}
	for range 3 {
		<-ready
	}
	close(release)
	all.Wait()
	return slots
}

// MaxIn and MaxOut take no memory. What a large call used is given back, and what
// a small one used is not.
func TestSlotsTakeTheMemoryOfTheirCallsOnly(t *testing.T) {
	const most = 1 << 23
	p := newPool(t, nil, 2, &shm.PoolConfig{MaxIn: 1 << 28, MaxOut: most})
	assert.Zero(t, shm.SlotMemory(p))
	bound := 2 * 2 * shm.KeepOfSlot
	for _, work := range []shm.DoFunc{ctest.DoFill, ctest.DoShrink} {
		for _, length := range []uint64{most, most / 4} {
			want := length
			if work == ctest.DoShrink {
				want = 1
			}
			err := p.DoView(background, work, number(length), func(out []byte) error {
				assert.Len(t, out, int(want))
				assert.Greater(t, shm.SlotMemory(p), int(length)/2)
				return nil
			})
			require.NoError(t, err)
			assert.LessOrEqual(t, shm.SlotMemory(p), bound)
			assert.NotZero(t, shm.SlotMemory(p))
		}
	}
	in := bytes.Repeat([]byte{1}, most/2)
	out, err := p.Do(background, ctest.DoEcho, in)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(in, out))
	assert.LessOrEqual(t, shm.SlotMemory(p), bound)
}

// What a child changes later is its own affair: view may see it change, and what Do returned stays.
func TestDoViewOfAChildThatGoesOnWriting(t *testing.T) {
	leavesNothing(t)
	p := newPool(t, nil, 1, nil)
	var kept []byte
	err := p.DoView(background, ctest.DoLinger, nil, func(out []byte) error {
		assert.Len(t, out, 4096)
		first := out[0]
		assert.True(t, eventually(func() bool { return out[0] != first }))
		return nil
	})
	assert.NoError(t, err)
	kept, err = p.Do(background, ctest.DoLinger, nil)
	require.NoError(t, err)
	was := bytes.Clone(kept)
	for range 100 {
		runtime.Gosched()
		require.Equal(t, was, kept)
	}
	require.NoError(t, p.Close())
}

// Whatever view does, the child is free afterwards.
func TestDoViewGivesTheChildBack(t *testing.T) {
	p := newPool(t, nil, 1, nil)
	mine := errors.New("mine")
	assert.Equal(t, mine, p.DoView(background, ctest.DoEcho, nil, func([]byte) error { return mine }))
	assert.PanicsWithValue(t, "mine", func() {
		_ = p.DoView(background, ctest.DoEcho, nil, func([]byte) error { panic("mine") })
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.DoView(background, ctest.DoEcho, nil, func([]byte) error { runtime.Goexit(); return nil })
	}()
	<-done
	out, err := p.Do(background, ctest.DoEcho, []byte("in"))
	assert.NoError(t, err)
	assert.Equal(t, "in", string(out))
	assert.Equal(t, shm.PoolStats{Calls: 4}, p.Stats())
}

// If a child is killed while view runs, view keeps its bytes.
func TestDoViewOfAChildThatEnds(t *testing.T) {
	leavesNothing(t)
	p := newPool(t, nil, 1, nil)
	in := bytes.Repeat([]byte("in"), page)
	err := p.DoView(background, ctest.DoPid, nil, func(out []byte) error {
		pid := int(binary.NativeEndian.Uint32(out))
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		require.True(t, eventually(func() bool { return shm.ReadCounters().Live == 0 }))
		assert.Equal(t, pid, int(binary.NativeEndian.Uint32(out)))
		return nil
	})
	assert.NoError(t, err)
	out, err := p.Do(background, ctest.DoEcho, in)
	assert.NoError(t, err)
	assert.Equal(t, in, out)
	// Close kills the child, and waits for view.
	viewing, closed := make(chan struct{}), make(chan error)
	go func() {
		<-viewing
		closed <- p.Close()
	}()
	err = p.DoView(background, ctest.DoEcho, in, func(out []byte) error {
		close(viewing)
		require.True(t, eventually(func() bool { return shm.ReadCounters().Live == 0 }))
		assert.Equal(t, in, out)
		return nil
	})
	assert.NoError(t, err)
	assert.NoError(t, <-closed)
}
