//go:build linux && cgo

package shared_test

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newMapping returns shared memory of the technique.
func newMapping(t testing.TB, length int, technique shm.Technique) *shm.Mapping {
	m, err := shm.Map(shm.Shared, length, &shm.Config{Technique: technique})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	return m
}

// forEach runs a test with each technique.
func forEach(t *testing.T, test func(t *testing.T, technique shm.Technique)) {
	for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero, shm.Memfd} {
		t.Run(technique.String(), func(t *testing.T) { test(t, technique) })
	}
}

// fork forks a child of the mapping, and checks at the end that its function returned 0.
func fork(t testing.TB, m *shm.Mapping, child shm.ChildFunc, cfg *shm.ForkConfig) *shm.Process {
	p, err := m.Fork(child, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Wait(context.Background())) })
	return p
}

func TestAGateWakesAcrossProcesses(t *testing.T) {
	forEach(t, func(t *testing.T, technique shm.Technique) {
		for _, cfg := range []*shm.ForkConfig{nil, {CloseFDs: true}, {Lean: true}} {
			m := newMapping(t, 4096, technique)
			pair, err := shm.At[sharedc.GatePair](m, 0)
			require.NoError(t, err)
			pair.Rounds = 200
			p := fork(t, m, sharedc.Answer, cfg)
			request, reply := shared.GateAt(&pair.Request), shared.GateAt(&pair.Reply)
			for i := range pair.Rounds {
				atomic.AddUint32(&pair.Asked, 1)
				request.Wake()
				err := reply.Wait(context.Background(), func() bool { return atomic.LoadUint32(&pair.Answered) == i+1 })
				require.NoError(t, err)
			}
			require.NoError(t, p.Wait(context.Background()))
		}
	})
}

// A goroutine that nobody wakes sees the change nevertheless.
func TestAGateIsLookedAtAgain(t *testing.T) {
	m := newMapping(t, 4096, shm.Anonymous)
	pair, err := shm.At[sharedc.GatePair](m, 0)
	require.NoError(t, err)
	done := make(chan error)
	go func() {
		done <- shared.GateAt(&pair.Reply).Wait(context.Background(), func() bool {
			return atomic.LoadUint32(&pair.Answered) == 1
		})
	}()
	atomic.StoreUint32(&pair.Answered, 1)
	require.NoError(t, <-done)
}

// A mender wakes those, too, whose flags died with who was to wake them.
func TestAMenderWakesAllAtAGate(t *testing.T) {
	m := newMapping(t, 4096, shm.Anonymous)
	pair, err := shm.At[sharedc.GatePair](m, 0)
	require.NoError(t, err)
	gate := shared.GateAt(&pair.Reply)
	done := make(chan error)
	for range 3 {
		go func() {
			done <- gate.Wait(context.Background(), func() bool { return atomic.LoadUint32(&pair.Answered) == 1 })
		}()
	}
	atomic.StoreUint32(&pair.Answered, 1)
	gate.WakeAll()
	for range 3 {
		require.NoError(t, <-done)
	}
}

func TestAGatesWaitEndsWithItsContext(t *testing.T) {
	m := newMapping(t, 4096, shm.Anonymous)
	pair, err := shm.At[sharedc.GatePair](m, 0)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = shared.GateAt(&pair.Reply).Wait(ctx, func() bool { return false })
	assert.Equal(t, context.Canceled, err)
}

// A child cuts the object short where a goroutine waits. The fault is in that goroutine, which can be ready
// for it, and not in one of the library's.
func TestAWaitEndsWhereItsMemoryFails(t *testing.T) {
	m, err := shm.Map(shm.Shared, 4096, &shm.Config{Technique: shm.Memfd})
	require.NoError(t, err)
	defer m.Close()
	words, err := shm.At[[2]uint32](m, 0)
	require.NoError(t, err)
	f, err := m.File()
	require.NoError(t, err)
	defer f.Close()
	failed := make(chan any, 1)
	go func() {
		debug.SetPanicOnFault(true)
		defer func() { failed <- recover() }()
		_ = shared.GateAt(words).Wait(background, func() bool { return false })
	}()
	for atomic.LoadUint32(&words[1])&2 == 0 { // it waits for the bell
		runtime.Gosched()
	}
	require.NoError(t, f.Truncate(0))
	shared.RingBell()
	assert.NotNil(t, <-failed)
	require.NoError(t, f.Truncate(4096))
}
