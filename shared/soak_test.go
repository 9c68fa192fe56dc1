//go:build linux && cgo

package shared_test

import (
	"flag"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var soakTime = flag.Duration("soak", 200*time.Millisecond, "how long children are killed at random")

// soak is one structure that a child and this process use until the child is killed.
type soak struct {
	name string
	// run uses the structure beside the child, up to the child's end, and checks the structure then. It
	// returns how much was done, and whether somebody was told of a death.
	run func(t *testing.T) (done int, told bool)
}

// killSoon kills a child after a random time.
func killSoon(t *testing.T, p *shm.Process) (ended <-chan error) {
	result := make(chan error, 1)
	go func() {
		time.Sleep(time.Duration(rand.Int64N(int64(2 * time.Millisecond))))
		_ = p.Kill()
		err := p.Wait(background)
		var exit *shm.ExitError
		if assert.ErrorAs(t, err, &exit) { // a child that finds something wrong exits by itself
			assert.True(t, exit.Status.Signaled(), "%v", err)
		}
		result <- err
	}()
	return result
}

// Children are killed at random times beside this process's own use of each structure.
func TestChildrenAreKilledAtRandom(t *testing.T) {
	soaks := []soak{soakMutex(t), soakRWMutex(t), soakSemaphore(t), soakProducer(t), soakConsumer(t)}
	kills, done, told := make([]int, len(soaks)), make([]int, len(soaks)), make([]int, len(soaks))
	for end := time.Now().Add(*soakTime); time.Now().Before(end); {
		i := rand.IntN(len(soaks))
		n, wasTold := soaks[i].run(t)
		kills[i]++
		done[i] += n
		if wasTold {
			told[i]++
		}
	}
	for i, s := range soaks {
		t.Logf("%s: %d children killed, told of %d deaths, %d operations here", s.name, kills[i], told[i], done[i])
	}
}

// until calls f until the child has ended.
func until(ended <-chan error, f func()) (calls int) {
	for {
		select {
		case <-ended:
			return calls
		default:
			f()
			calls++
		}
	}
}

// forkSoak forks a child that goes on until it is killed.
func forkSoak(t *testing.T, m *shm.Mapping, child shm.ChildFunc) *shm.Process {
	p, err := m.Fork(child, &shm.ForkConfig{KillWithParent: true})
	require.NoError(t, err)
	return p
}

func soakMutex(t *testing.T) soak {
	m, a, l := newArea(t, shm.DefaultTechnique())
	return soak{"mutex", func(t *testing.T) (int, bool) {
		a.Rounds, a.Inside = 1<<31, 0
		told := false
		n := until(killSoon(t, forkSoak(t, m, sharedc.CountLocked)), func() {
			if seize(t, l) != nil {
				told, a.Inside = true, 0
			}
		})
		return n, seize(t, l) != nil || told
	}}
}

func soakRWMutex(t *testing.T) soak {
	m, a := newSite(t, shm.DefaultTechnique())
	l, err := shared.NewRWMutex(m, 0)
	require.NoError(t, err)
	return soak{"rwmutex", func(t *testing.T) (int, bool) {
		a.Rounds, a.Inside = 1<<31, 0
		told := false
		once := func() {
			if err := l.RLock(background); err != nil {
				require.Equal(t, shared.ErrOwnerDied, err)
			}
			require.NoError(t, l.RUnlock())
			if err := l.Lock(background); err != nil {
				require.Equal(t, shared.ErrOwnerDied, err)
				require.NoError(t, l.Consistent())
				told = true
			}
			require.NoError(t, l.Unlock())
		}
		n := until(killSoon(t, forkSoak(t, m, sharedc.CountRW)), once)
		once()
		return n, told
	}}
}

func soakSemaphore(t *testing.T) soak {
	m, a := newSite(t, shm.DefaultTechnique())
	s, err := shared.NewSemaphore(m, 0, 2)
	require.NoError(t, err)
	return soak{"semaphore", func(t *testing.T) (int, bool) {
		a.Rounds, a.Inside = 1<<31, 0
		n := until(killSoon(t, forkSoak(t, m, sharedc.CountUnits)), func() {
			require.NoError(t, s.Acquire(background))
			require.NoError(t, s.Release())
		})
		isWhole(t, s)
		return n, false
	}}
}

func soakProducer(t *testing.T) soak {
	m, a, _ := newRingArea(t, shm.DefaultTechnique())
	return soak{"producer of a ring", func(t *testing.T) (int, bool) {
		a.Rounds, a.Longest = 1<<31, 500
		r := ringsAnew(t, m)
		p := forkSoak(t, m, sharedc.RingProduce)
		r.Watch(p)
		ended := killSoon(t, p)
		for i := uint32(0); ; i++ {
			rec, err := r.Peek(background)
			if err != nil {
				require.Equal(t, <-ended, err)
				require.NoError(t, r.CloseRead())
				return int(i), true
			}
			require.Equal(t, record(a, i), append([]byte{}, rec...))
			require.NoError(t, r.Release())
		}
	}}
}

func soakConsumer(t *testing.T) soak {
	m, a, _ := newRingArea(t, shm.DefaultTechnique())
	return soak{"consumer of a ring", func(t *testing.T) (int, bool) {
		a.Rounds, a.Longest = 1<<31, 500
		r := ringsAnew(t, m)
		p := forkSoak(t, m, sharedc.RingConsume)
		r.Watch(p)
		ended := killSoon(t, p)
		for i := uint32(0); ; i++ {
			buf, err := r.Reserve(background, a.RingLength(i))
			if err != nil {
				require.NotEqual(t, io.ErrClosedPipe, err, "the child found a record to be wrong")
				require.Equal(t, <-ended, err)
				require.NoError(t, r.CloseWrite())
				return int(i), true
			}
			copy(buf, record(a, i))
			require.NoError(t, r.Commit())
		}
	}}
}
