//go:build linux && cgo && livego

package live_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// held runs do in a goroutine until do's function waits for release. It also
// returns how often that function was called.
func held(do func(f func())) (release chan struct{}, calls *atomic.Int32) {
	release, calls = make(chan struct{}), new(atomic.Int32)
	begun := make(chan struct{})
	go do(func() {
		if calls.Add(1) == 1 {
			close(begun)
			<-release
		}
	})
	<-begun
	return release, calls
}

// A Once begins anew in the child, as with pthread_once(3) after fork(2).
func TestAOnceThatAnotherGoroutineWasInBeginsAnew(t *testing.T) {
	var once sync.Once
	release, calls := held(func(f func()) { once.Do(f) })
	waiting := make(chan struct{})
	for range 4 { // frozen as they wait for it
		go func() { waiting <- struct{}{}; once.Do(func() { panic("done by two") }) }()
		<-waiting
	}
	p, err := live.Go(func() int {
		for range 3 {
			once.Do(func() { calls.Add(1) })
		}
		return int(calls.Load())
	})
	require.NoError(t, err)
	assert.Equal(t, 2, wait(t, p))
	close(release)
	once.Do(func() { panic("done by two") })
	assert.EqualValues(t, 1, calls.Load(), "in the parent it is done once")
}

func TestAFrozenGoroutineThatTheChildWakesEndsNoOnce(t *testing.T) {
	var once sync.Once
	release, calls := held(func(f func()) { once.Do(f); os.Exit(9) })
	_ = release
	p, err := live.Go(func() int {
		once.Do(func() {
			// The frozen goroutine's function ends: it must not unlock what is this one's
			close(release)
			for range 100 {
				runtime.Gosched()
			}
			calls.Add(1)
		})
		return int(calls.Load())
	})
	require.NoError(t, err)
	assert.Equal(t, 2, wait(t, p))
}

func TestOnceFuncsBeginAnew(t *testing.T) {
	var body func()
	value := sync.OnceValue(func() int { body(); return 5 })
	release, calls := held(func(f func()) { body = f; value() })
	defer close(release)
	p, err := live.Go(func() int { return value() + int(calls.Load()) })
	require.NoError(t, err)
	assert.Equal(t, 7, wait(t, p))
}

// If the goroutine that forks is in a Once, it is still in that Once in the
// child.
func TestAForkInsideAOnce(t *testing.T) {
	var once sync.Once
	pid, calls := 0, 0
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	once.Do(func() {
		calls++
		pid, err = live.Fork()
	})
	if pid == 0 && err == nil {
		once.Do(func() { calls++ })
		fmt.Fprint(w, calls)
		os.Exit(0)
	}
	require.NoError(t, err)
	w.Close()
	var n int
	_, err = fmt.Fscan(r, &n)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	proc, err := os.FindProcess(pid)
	require.NoError(t, err)
	state, err := proc.Wait()
	require.NoError(t, err)
	assert.True(t, state.Success(), state)
}

// In a child of a child, a Once that the child began anew is neither forgotten
// nor begun a third time.
func TestAOnceBegunAnewHoldsInAGrandchild(t *testing.T) {
	var once sync.Once
	release, calls := held(func(f func()) { once.Do(f) })
	defer close(release)
	p, err := live.Go(func() int {
		childRelease, _ := held(func(f func()) { once.Do(f) }) // the child's own, held as it forks
		defer close(childRelease)
		q, err := live.Go(func() int { once.Do(func() { calls.Add(1) }); return int(calls.Load()) })
		if err != nil {
			return 10
		}
		var exit *shm.ExitError
		if err := q.Wait(context.Background()); !errors.As(err, &exit) {
			return 11
		}
		return exit.Status.ExitStatus()
	})
	require.NoError(t, err)
	assert.Equal(t, 2, wait(t, p))
}

// Package net finds some things out once, and may be doing so when a child is
// forked.
func TestChildrenListenAsTheParentFirstDoes(t *testing.T) {
	const env = "LIVE_TEST_FIRST_LISTEN"
	if os.Getenv(env) == "" {
		for range 20 {
			cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
			cmd.Env = append(os.Environ(), env+"=1")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		return
	}
	listen := func() error {
		l, err := net.Listen("tcp", "localhost:0")
		if err == nil {
			err = l.Close()
		}
		return err
	}
	var running sync.WaitGroup
	running.Add(1)
	go func() { defer running.Done(); assert.NoError(t, listen()) }()
	for range 4 {
		p, err := live.Go(func() int {
			if err := listen(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return good
		})
		require.NoError(t, err)
		assert.Equal(t, good, wait(t, p))
	}
	running.Wait()
}
