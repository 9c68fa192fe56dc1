//go:build linux && cgo

package shm_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// What ends a set-up that does not end by itself, and what it does not hold up meanwhile.

// hangs are functions for Init that do not return while the mapping says so.
var hangs = map[string]shm.ChildFunc{"runs": ctest.InitSlow, "is stopped": ctest.InitStop}

// hanging has Init hang from now on. begun reports whether one does.
func hanging(t *testing.T, m *shm.Mapping) (begun func() bool) {
	slow, where := must(shm.At[int32](m, 128)), must(shm.At[int32](m, 132))
	atomic.StoreInt32(where, 0)
	atomic.StoreInt32(slow, 1)
	return func() bool { return atomic.LoadInt32(where) == 1 }
}

func TestContextEndsASetUp(t *testing.T) {
	leavesNothing(t)
	for name, init := range hangs {
		for _, cfg := range []*shm.ForkConfig{nil, {KillWithParent: true, ProcessGroup: true}} {
			t.Run(name, func(t *testing.T) {
				m := newMapping(t, shm.Shared, page, nil)
				begun := hanging(t, m)
				before := shm.ReadCounters()
				ctx, cancel := context.WithCancel(background)
				called := make(chan error)
				go func() { called <- shm.CallWithInit(ctx, init, ctest.Increment, m, cfg) }()
				require.True(t, eventually(begun))
				cancel()
				err := <-called
				assert.ErrorIs(t, err, context.Canceled)
				assert.ErrorContains(t, err, "was killed")
				assert.Zero(t, getInt(m), "the function did not run")
				before.Failed++
				assert.Equal(t, before, shm.ReadCounters())

				limit, cancel := context.WithTimeout(background, 50*time.Millisecond)
				defer cancel()
				err = shm.CallWithInit(limit, init, ctest.Increment, m, cfg)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			})
		}
	}
}

func TestASetUpHoldsUpNoOther(t *testing.T) {
	leavesNothing(t)
	for name, init := range hangs {
		t.Run(name, func(t *testing.T) {
			m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Memfd, Reserve: 4 * page})
			begun := hanging(t, m)
			ctx, cancel := context.WithCancel(background)
			defer cancel()
			called := make(chan error)
			go func() { called <- shm.CallWithInit(ctx, init, ctest.Increment, m, nil) }()
			require.True(t, eventually(begun))
			assert.NoError(t, m.Resize(2*page, 0))
			assert.NoError(t, shm.Call(background, ctest.Increment, m, nil))
			assert.ErrorIs(t, m.Resize(page, 0), shm.ErrLive, "the child is there already")
			assert.NoError(t, m.Close())
			cancel()
			assert.ErrorIs(t, <-called, context.Canceled)
		})
	}
}

// A pool's child is lost, and Init of the next one does not return.
func TestPoolWhoseInitHangs(t *testing.T) {
	leavesNothing(t)
	for name, init := range hangs {
		for _, server := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				m := newMapping(t, shm.Shared, page, nil)
				p := newPool(t, m, 1, &shm.PoolConfig{Init: init, ForkServer: server, RestartRate: 1e6})
				begun := hanging(t, m)
				if server { // which has run Init, and is made anew
					if p.ServerPid() == 0 {
						t.Skip("this kernel or C library can have no fork server")
					}
					require.NoError(t, unix.Kill(p.ServerPid(), unix.SIGKILL))
				}
				_, err := p.Call(background, ctest.Crash, 0, 1)
				require.ErrorAs(t, err, new(*shm.ExitError))
				require.True(t, eventually(begun))

				limit, cancel := context.WithTimeout(background, 20*time.Millisecond)
				defer cancel()
				_, err = p.Call(limit, ctest.Add, 8, 8)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ErrorIs(t, err, shm.ErrNotStarted)
				called := make(chan error)
				go func() {
					_, err := p.Call(background, ctest.Add, 8, 8)
					called <- err
				}()
				_, err = m.Stats()
				assert.NoError(t, err, "Init does not hold up what locks the mapping")
				assert.NoError(t, p.Close())
				assert.ErrorIs(t, <-called, shm.ErrPoolClosed)
			})
		}
	}
}

// A fork server is lost, and Init of the next one does not return.
func TestForkServerCloseEndsInit(t *testing.T) {
	leavesNothing(t)
	for name, init := range hangs {
		t.Run(name, func(t *testing.T) {
			m := newMapping(t, shm.Shared, page, nil)
			s := newForkServer(t, m, &shm.ForkServerConfig{Init: init})
			needServer(t, s)
			begun := hanging(t, m)
			require.NoError(t, unix.Kill(s.ServerPid(), unix.SIGKILL))
			ctx, cancel := context.WithCancel(background)
			called := make(chan error)
			call := func(ctx context.Context) {
				for {
					// The first may be by the child that was made in advance.
					if err := s.Call(ctx, ctest.Malloc); err != nil {
						called <- err
						return
					}
				}
			}
			go call(ctx)
			require.True(t, eventually(begun))
			cancel()
			assert.ErrorIs(t, <-called, context.Canceled)
			go call(background)
			assert.NoError(t, s.Close())
			assert.ErrorIs(t, <-called, shm.ErrForkServerClosed)
		})
	}
}
