//go:build linux && cgo && livego

package live_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/testenv"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() { hook.KillTimeout = childLimit } // for a hang, and not for a slow machine

// Children that run C belong to the process that forked them. A live fork's
// child has no part in its parent's children.
func TestTheChildLeavesItsParentsChildrenAlone(t *testing.T) {
	ctx := context.Background()
	m, err := shm.Map(shm.Shared, 4096, nil)
	require.NoError(t, err)
	defer m.Close()
	crashing, err := shm.Map(shm.Shared, 1, nil)
	require.NoError(t, err)
	defer crashing.Close()
	pool, err := shm.NewPool(m, 1, nil)
	require.NoError(t, err)
	_, err = pool.Call(ctx, ctest.Increment, 8, 4)
	require.NoError(t, err)
	turn, err := shm.At[int32](m, 0)
	require.NoError(t, err)

	p, err := live.Go(func() int {
		for atomic.LoadInt32(turn) == 0 {
			time.Sleep(time.Millisecond)
		}
		if _, err := pool.Call(ctx, ctest.Increment, 8, 4); !errors.Is(err, unix.ECHILD) {
			return 1
		}
		if err := pool.Close(); !errors.Is(err, unix.ECHILD) {
			return 2
		}
		var exit *shm.ExitError
		if err := shm.Call(ctx, ctest.Crash, crashing,
			&shm.ForkConfig{KillWithParent: true, Lean: true}); !errors.As(err, &exit) ||
			exit.Crash == nil {
			return 3
		}
		own, err := shm.NewPool(m, 1, nil)
		if err != nil {
			return 4
		}
		if _, err := own.Call(ctx, ctest.Increment, 8, 4); err != nil || own.Close() != nil {
			return 5
		}
		for range 3 {
			if err := shm.Call(ctx, ctest.Increment, m, nil); err != nil {
				return 6
			}
		}
		return good
	})
	require.NoError(t, err)
	crashed, err := crashing.Fork(ctest.Crash, nil)
	require.NoError(t, err)
	require.NoError(t, unix.Waitid(unix.P_PID, crashed.Pid(), nil, unix.WEXITED|unix.WNOWAIT, nil))
	atomic.StoreInt32(turn, 1)
	assert.Equal(t, good, wait(t, p))

	var exit *shm.ExitError
	require.ErrorAs(t, crashed.Wait(ctx), &exit)
	if assert.NotNil(t, exit.Crash, "its report is not another process's") {
		assert.Equal(t, uintptr(16), exit.Crash.Addr)
	}
	_, err = pool.Call(ctx, ctest.Increment, 8, 4)
	assert.NoError(t, err)
	assert.NoError(t, pool.Close())
	served, err := shm.At[int32](m, 8)
	require.NoError(t, err)
	assert.Equal(t, int32(3), *served)
}

// A copy of a pool knows that it is a copy, even if both processes have the
// process id 1 in different pid namespaces.
func TestACopyWithTheSamePidIsACopy(t *testing.T) {
	const env = "LIVE_TEST_PID_1"
	if os.Getenv(env) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1",
			"-test.v")
		cmd.Env = append(os.Environ(), env+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) {
			t.Skip("a pid namespace of its own needs CAP_SYS_ADMIN")
		}
		assert.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "--- PASS: "+t.Name())
		return
	}
	require.Equal(t, 1, os.Getpid())
	m, err := shm.Map(shm.Shared, 4096, nil)
	require.NoError(t, err)
	pool, err := shm.NewPool(m, 1, nil)
	require.NoError(t, err)
	stays, err := m.Fork(ctest.Pause, nil)
	require.NoError(t, err)

	// FindProcess forks once in a program: that child would be the namespace's first process.
	_, err = os.FindProcess(1)
	require.NoError(t, err)
	runtime.LockOSThread() // not unlocked: the thread ends with the test
	require.NoError(t, syscall.Unshare(syscall.CLONE_NEWPID))
	pid, err := live.Fork()
	require.NoError(t, err)
	if pid == 0 {
		background := context.Background()
		status := good
		if os.Getpid() != 1 {
			status = 1
		} else if _, err := pool.Call(background, ctest.Increment, 0, 4); !errors.Is(err,
			unix.ECHILD) {
			status = 2
		} else if err := pool.Close(); !errors.Is(err, unix.ECHILD) {
			status = 3
		} else if err := shm.Call(background, ctest.Increment, m, nil); err != nil {
			status = 4
		}
		os.Exit(status)
	}
	_, status, err := shm.Waitpid(pid, 0)
	require.NoError(t, err)
	assert.Equal(t, good, status.ExitStatus())
	_, err = pool.Call(context.Background(), ctest.Increment, 0, 4)
	assert.NoError(t, err)
	assert.NoError(t, pool.Close())
	assert.NoError(t, stays.Kill())
}

// A snapshot knows its parent from a pid namespace of its own, too.
func TestASnapshotInAnotherPidNamespaceKnowsItsParent(t *testing.T) {
	if !alone(t) {
		return
	}
	testenv.SpareThreads() // a thread whose children are in another namespace cannot start one
	runtime.GOMAXPROCS(1)  // the goroutine that forks comes to the same thread
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, snapshot(t, path, writes("first use")))
	if err := syscall.Unshare(syscall.CLONE_NEWPID); err != nil {
		t.Skip("a pid namespace of its own needs CAP_SYS_ADMIN: ", err)
	}
	require.NoError(t, snapshot(t, path, func(w io.Writer) error {
		_, err := fmt.Fprint(w, os.Getpid())
		return err
	}))
	pid, err := os.ReadFile(path)
	require.NoError(t, err)
	t.Logf("the child's process id was %s", pid) // 1, if it came to that thread
}

// A live fork's child forks its own children by a new thread. That thread has
// the settings of the child's process, and not those of the thread that first
// asks for a child.
func TestTheChildsForkerIsItsOwn(t *testing.T) {
	m, err := shm.Map(shm.Shared, 4096, nil)
	require.NoError(t, err)
	defer m.Close()
	nice, err := shm.Slice[int](m, 0, 3) // as child_limits writes it
	require.NoError(t, err)
	p, err := live.Go(func() int {
		killed := &shm.ForkConfig{KillWithParent: true}
		if err := shm.Call(context.Background(), ctest.Limits, m, nil); err != nil {
			return 1
		}
		own := nice[2]
		first := make(chan int)
		go func() {
			runtime.LockOSThread()
			if err := unix.Setpriority(unix.PRIO_PROCESS, 0, own+3); err != nil {
				first <- -1
			}
			if err := shm.Call(context.Background(), ctest.Limits, m, killed); err != nil {
				first <- -2
			}
			first <- nice[2]
		}()
		if <-first != own {
			return 2
		}
		if err := shm.Call(context.Background(), ctest.Limits, m, killed); err != nil ||
			nice[2] != own {
			return 3
		}
		return good
	})
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
}
