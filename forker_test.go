//go:build linux && cgo

package shm_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// onAThreadOfItsOwn runs a function on a thread that no other goroutine ever
// has, before or after.
func onAThreadOfItsOwn(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		f()
	}()
	<-done
}

// niceOf returns the nice value that a child has.
func niceOf(t *testing.T, cfg *shm.ForkConfig) int {
	t.Helper()
	m := newMapping(t, shm.Shared, page, nil)
	require.NoError(t, wait(t, forkedWith(t, m, ctest.Limits, cfg)))
	return int(must(shm.Slice[int](m, 0, 3))[2])
}

// A child of KillWithParent has the properties of the process. It has none of
// the thread that called Fork. That holds for the program's first such child,
// too.
func TestKillWithParentTakesNothingFromTheCallingThread(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	leavesNothing(t)
	killed := &shm.ForkConfig{KillWithParent: true}
	own := niceOf(t, nil)
	nicer := min(own+5, 19) // 19 is the most
	onAThreadOfItsOwn(func() {
		// On Linux, setpriority sets the nice value of this thread alone.
		require.NoError(t, unix.Setpriority(unix.PRIO_PROCESS, 0, nicer))
		assert.Equal(t, own, niceOf(t, killed))
		assert.Equal(t, nicer, niceOf(t, nil), "without it the child is the thread's")
	})
	assert.Equal(t, own, niceOf(t, killed))
}

func TestKillWithParentStaysInTheProcessesNetwork(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	own := must(os.Readlink("/proc/self/ns/net"))
	network := func(cfg *shm.ForkConfig) string {
		require.NoError(t, wait(t, forkedWith(t, m, ctest.Netns, cfg)))
		return unix.ByteSliceToString(m.Bytes())
	}
	onAThreadOfItsOwn(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			assert.ErrorIs(t, err, unix.EPERM)
			t.Log("a network namespace of its own needs CAP_SYS_ADMIN:", err)
			return
		}
		assert.NotEqual(t, own, network(nil), "without it the child is the thread's")
		assert.Equal(t, own, network(&shm.ForkConfig{KillWithParent: true}))
	})
	assert.Equal(t, own, network(&shm.ForkConfig{KillWithParent: true}))
}

// A thread whose children are to be in another pid namespace does not know
// their ids, nor do they know its.
func TestForksOfAThreadThatUnsharedItsPidNamespace(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	if os.Getuid() != 0 {
		t.Skip("a pid namespace of its own needs CAP_SYS_ADMIN")
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	onAThreadOfItsOwn(func() {
		require.NoError(t, unix.Unshare(unix.CLONE_NEWPID))
		require.NoError(t,
			wait(t, forkedWith(t, m, ctest.Increment, &shm.ForkConfig{KillWithParent: true})))
		require.NoError(t, wait(t, forkedWith(t, m, ctest.Increment, nil)))
		_, err := m.Fork(ctest.Increment, nil)
		assert.ErrorIs(t, err, unix.ENOMEM, "its first child was the namespace's init, and is gone")
	})
	assert.Equal(t, 2, getInt(m))
}
