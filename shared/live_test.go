//go:build linux && cgo && livego

package shared_test

import (
	"context"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/live"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A live fork's child makes a Ring of its own, and its parent is told of its death. The Ring that it has
// a copy of belongs to its parent.
func TestALiveForksChildHasARing(t *testing.T) {
	m, _, rings := newRingArea(t, shm.DefaultTechnique())
	send(t, rings[1], []byte("from the parent"))
	p, err := live.Go(func() int {
		if _, err := rings[1].Reserve(background, 1); !assert.ErrorIs(t, err, shared.ErrTaken) {
			return 1
		}
		if _, err := newRing(t, m, sharedc.RingOffset+sharedc.RingBytes).Reserve(background, 1); err != shared.ErrTaken {
			return 2
		}
		in, out := newRing(t, m, sharedc.RingOffset+sharedc.RingBytes), newRing(t, m, sharedc.RingOffset)
		for {
			rec, err := in.Peek(background)
			if err != nil {
				return 3
			}
			send(t, out, rec)
			if in.Release() != nil {
				return 4
			}
		}
	})
	require.NoError(t, err)
	require.Equal(t, "from the parent", string(receive(t, rings[0])))
	for range 100 {
		send(t, rings[1], []byte("again"))
		require.Equal(t, "again", string(receive(t, rings[0])))
	}
	require.NoError(t, p.Kill())
	_, err = rings[0].Peek(background)
	require.Equal(t, p.Wait(background), err)
	var exit *shm.ExitError
	require.ErrorAs(t, err, &exit)
	for err = nil; err == nil; _, err = rings[1].Reserve(background, 1) {
	}
	require.Equal(t, p.Wait(background), err)
}

// A live fork's child that dies with a lock is told of.
func TestALiveForksChildOwnsLocks(t *testing.T) {
	m, _, l := newArea(t, shm.DefaultTechnique())
	done, err := shared.NewEvent(m, sharedc.OthersOffset)
	require.NoError(t, err)
	p, err := live.Go(func() int {
		if l.Lock(background) != nil {
			return 1
		}
		done.Set()
		select {}
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(background)
	go func() { // a child that ends early sets nothing
		_ = p.Wait(background)
		cancel()
	}()
	require.NoError(t, done.Wait(ctx))
	require.Equal(t, shared.ErrLocked, l.TryLock())
	require.NoError(t, p.Kill())
	require.Equal(t, shared.ErrOwnerDied, l.Lock(background))
	require.NoError(t, l.Consistent())
	require.NoError(t, l.Unlock())
	require.Error(t, p.Wait(background))
}
