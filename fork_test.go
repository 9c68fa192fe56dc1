//go:build linux && cgo

package shm_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/testenv"
)

// forked forks, and kills the child at the end of a test that failed to see it
// end.
func forked(t testing.TB, m *shm.Mapping, child shm.ChildFunc) *shm.Process {
	t.Helper()
	p, err := m.Fork(child, nil)
	require.NoError(t, err)
	return endedByTest(t, p)
}

// endedByTest kills the child at the end of a test that failed to see it end.
func endedByTest(t testing.TB, p *shm.Process) *shm.Process {
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			assert.ErrorIs(t, err, os.ErrProcessDone)
		}
		wait(t, p)
	})
	return p
}

// wait is Process.Wait, with a limit that is for hangs, and not for a slow
// machine.
func wait(t testing.TB, p *shm.Process) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	err := p.Wait(ctx)
	require.NotErrorIs(t, err, context.DeadlineExceeded, "child %d hangs", p.Pid())
	return err
}

func setInt(m *shm.Mapping, value int) { *must(shm.At[int32](m, 0)) = int32(value) }
func getInt(m *shm.Mapping) int        { return int(*must(shm.At[int32](m, 0))) }

func TestForkSharesOrCopies(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		for _, length := range []int{4, odd, 1 << 20} {
			m := newMapping(t, sharing, length, cfg)
			setInt(m, 41)
			assert.NoError(t, wait(t, forked(t, m, ctest.Increment)))
			if sharing == shm.Shared {
				assert.Equal(t, 42, getInt(m))
			} else {
				assert.Equal(t, 41, getInt(m))
			}

			clear(m.Bytes())
			assert.NoError(t, wait(t, forked(t, m, ctest.FirstLast)))
			want := make([]byte, length)
			if sharing == shm.Shared {
				want[0], want[length-1] = 1, 2
			}
			assert.Equal(t, want, m.Bytes())
		}
	})
}

func TestForkedChildSeesLaterWritesIfShared(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, page, cfg)
		p := forked(t, m, ctest.Until)
		setInt(m, 5)
		if sharing == shm.Shared {
			assert.Equal(t, exited(p, 5), wait(t, p))
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, p.Wait(ctx), context.DeadlineExceeded)
	})
}

func exited(p *shm.Process, status int) error {
	return &shm.ExitError{Pid: p.Pid(), Status: unix.WaitStatus(status << 8)}
}

func killed(p *shm.Process, sig unix.Signal) error {
	return &shm.ExitError{Pid: p.Pid(), Status: unix.WaitStatus(sig)}
}

func TestForkedViewsAreIndependent(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, 4*page, cfg)
		want := pattern(m)
		assert.NoError(t, wait(t, forked(t, m, ctest.Unmap)))
		assert.Equal(t, want, m.Bytes())

		assert.NoError(t, wait(t, forked(t, m, ctest.Remap)))
		if sharing == shm.Shared {
			want[0] = 7
		}
		assert.Equal(t, want, m.Bytes())

		clear(m.Bytes())
		stays := forked(t, m, ctest.Until) // at the old address
		if sharing == shm.Shared && cfg.Technique == shm.Memfd {
			assert.ErrorIs(t, m.Resize(page, shm.InPlace), shm.ErrLive)
			require.NoError(t, m.Truncate(page))
		} else {
			require.NoError(t, m.Resize(page, shm.InPlace))
		}
		require.NoError(t, m.MoveTo(newMapping(t, sharing, page, cfg)))
		setInt(m, 6)
		if sharing == shm.Shared {
			assert.Equal(t, exited(stays, 6), wait(t, stays))
		}
	})
}

func TestForkedChildIsFresh(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, page, cfg)
		for _, kill := range []bool{false, true} {
			fresh, err := m.Fork(ctest.Fresh,
				&shm.ForkConfig{NoCrashReport: true, KillWithParent: kill})
			require.NoError(t, err)
			assert.NoError(t, wait(t, fresh), "signals, stack for them")
		}
		one := forked(t, m, ctest.Threads)
		assert.Equal(t, exited(one, 1), wait(t, one))
		assert.NoError(t, wait(t, forked(t, m, ctest.Malloc)))
	})
	m := newMapping(t, shm.Shared, page, nil)
	assert.NoError(t, wait(t, forked(t, m, ctest.Parent)))
	assert.Equal(t, os.Getpid(), getInt(m))
}

// A signal to the whole group may reach the child at once: it must find the
// child's disposition.
func TestNoHandlerOfTheParentRunsInTheChild(t *testing.T) {
	if !inOwnProcess(t, &syscall.SysProcAttr{Setpgid: true}) {
		return
	}
	m := newMapping(t, shm.Shared, page, nil)
	stop, err := ctest.InterruptGroup(m.Addr())
	require.NoError(t, err)
	defer stop()
	for range 500 {
		pid, err := shm.Fork(ctest.Exit, nil, 0)
		require.NoError(t, err)
		_, status, err := shm.Waitpid(pid, 0)
		require.NoError(t, err)
		assert.Contains(t, []unix.WaitStatus{0, unix.WaitStatus(unix.SIGUSR2)}, status)
	}
	assert.Zero(t, getInt(m), "a handler ran in a child")
}

// The child shares stdio's buffers and exit handlers with the parent, so it
// must leave them alone.
func TestChildRunsNoExitHandlers(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	m := newMapping(t, shm.Shared, page, nil)
	require.NoError(t, ctest.AtExit(m.Addr()))
	p := forked(t, m, ctest.FirstLast)
	assert.NoError(t, wait(t, p))
	assert.Equal(t, byte(2), m.Bytes()[page-1])
	p = forked(t, m, ctest.Parent)
	assert.NoError(t, wait(t, p))
	assert.Equal(t, os.Getpid(), getInt(m), "no handler stored 1 after the child's function")
}

func TestForkDoesNotInheritLocks(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, page, cfg)
		require.NoError(t, unix.Mlock(m.Bytes()))
		assert.NoError(t, wait(t, forked(t, m, ctest.Locked)))
	})
}

func TestChildrenLoseNoUpdate(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, page, cfg)
		var children []*shm.Process
		for range 20 {
			children = append(children, forked(t, m, ctest.Count))
		}
		for _, p := range children {
			assert.NoError(t, wait(t, p))
		}
		want := 0
		if sharing == shm.Shared {
			want = 20 * 10000
		}
		assert.Equal(t, want, getInt(m))
	})
}

func TestForkWhileResized(t *testing.T) {
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		m := newMapping(t, sharing, 16*page, cfg)
		stop := make(chan struct{})
		resized := make(chan error, 1)
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					resized <- nil
					return
				default:
				}
				if err := m.Resize((1+i%16)*page, shm.MayMove); err != nil &&
					!errors.Is(err, shm.ErrLive) {
					resized <- err
					return
				}
			}
		}()
		for range times(50, 10) { // what a child writes to is mapped in it, at either end
			assert.NoError(t, wait(t, forked(t, m, ctest.FirstLast)))
		}
		close(stop)
		assert.NoError(t, <-resized)
	})
}

func TestForkRefuses(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	_, err := m.Fork(nil, nil)
	assert.ErrorIs(t, err, unix.EINVAL)
	assert.EqualError(t, err, fmt.Sprintf("shm: fork %d bytes: child is nil, must be a C "+
		"function: invalid argument", page))
	p, err := m.Fork(ctest.Status, &shm.ForkConfig{})
	require.NoError(t, err)
	assert.NoError(t, wait(t, p))
}

func TestForkWithFullDescriptorTable(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	fillDescriptorTable(t)
	_, err := m.Fork(ctest.Increment, nil)
	assert.EqualError(t, err,
		fmt.Sprintf("shm: fork %d bytes: pidfd_open: too many open files", page))
	assert.ErrorIs(t, err, unix.EMFILE)
	assert.Zero(t, getInt(m), "no child ran")
}

// With no process left to have, fork fails, and nothing else does.
func TestForkWithoutProcesses(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	needSetuid(t)
	const user = 54321 // no one; root is not limited
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	setInt(m, 1)
	testenv.SpareThreads()
	if os.Getuid() == 0 {
		require.NoError(t, syscall.Setuid(user))
	}
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NPROC, &before))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	blocked := blockedSignals()
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 1, Max: before.Max}))
	_, err := m.Fork(ctest.Increment, nil)
	_, rawErr := shm.Fork(ctest.Increment, m.Addr(), m.Len())
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NPROC, &before))
	assert.Equal(t, blocked, blockedSignals())

	assert.EqualError(t, err,
		fmt.Sprintf("shm: fork %d bytes: fork: resource temporarily unavailable", page))
	assert.ErrorIs(t, err, unix.EAGAIN)
	assert.Equal(t, unix.EAGAIN, rawErr)
	assert.NoError(t, wait(t, forked(t, m, ctest.Increment)))
	assert.Equal(t, 2, getInt(m))
}

// blockedSignals returns the calling thread's signal mask.
func blockedSignals() string {
	status := string(must(os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", unix.Gettid()))))
	return regexp.MustCompile(`SigBlk:.*`).FindString(status)
}

// isGoroutine says whether there is a goroutine whose trace has all of this.
func isGoroutine(has ...string) bool {
	stacks := make([]byte, 1<<20)
	for trace := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if !slices.ContainsFunc(has, func(s string) bool { return !strings.Contains(trace, s) }) {
			return true
		}
	}
	return false
}

func TestWaitTellsHowTheChildEnded(t *testing.T) {
	t.Chdir(t.TempDir()) // for the core
	m := newMapping(t, shm.Shared, page, nil)
	for _, status := range []int{0, 1, 2, 127, 128, 255, 256, 257, 511, -1} {
		setInt(m, status)
		p := forked(t, m, ctest.Status)
		want := status & 0xff
		switch {
		case status == 0:
			assert.NoError(t, wait(t, p))
			continue
		case want == 0: // a failure stays one
			want = 255
		}
		assert.Equal(t, exited(p, want), wait(t, p))
		assert.EqualError(t, wait(t, p), fmt.Sprintf("child %d: exit status %d", p.Pid(), want))
	}
	for _, sig := range []unix.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT,
		unix.SIGBUS, unix.SIGFPE, unix.SIGKILL,
		unix.SIGUSR1, unix.SIGSEGV, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM,
		unix.SIGSTKFLT, unix.SIGXCPU,
		unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR, unix.SIGSYS, 34, 64,
	} {
		setInt(m, int(sig))
		p := forked(t, m, ctest.Signal)
		var e *shm.ExitError
		if assert.ErrorAs(t, wait(t, p), &e) {
			assert.True(t, e.Status.Signaled())
			assert.Equal(t, sig, e.Status.Signal())
			assert.Equal(t, p.Pid(), e.Pid)
		}
	}
	for _, sig := range []unix.Signal{unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH, unix.SIGCONT} {
		// These signals do no harm by default.
		setInt(m, int(sig))
		p := forked(t, m, ctest.Signal)
		assert.Equal(t, exited(p, 99), wait(t, p))
	}

	setInt(m, int(unix.SIGSEGV))
	p := forked(t, m, ctest.Signal)
	where := `.*/libc.*`
	if testenv.IsStatic() {
		where = `.*(kill|vdso).*`
	}
	assert.Regexp(t,
		fmt.Sprintf(`^child %d: signal: segmentation fault, at %s\+0x[0-9a-f]+\)?$`, p.Pid(),
			where), wait(t, p).Error())
	assert.EqualError(t, &shm.ExitError{Pid: 4711, Status: 11 | 0x80},
		"child 4711: signal: segmentation fault (core dumped)")
}

// That a core was dumped is said where C says so.
func TestWaitTellsOfCores(t *testing.T) {
	t.Chdir(t.TempDir())
	pid, err := shm.Fork(ctest.Dump, nil, int(unix.SIGSEGV))
	require.NoError(t, err)
	_, raw, err := shm.Waitpid(pid, 0)
	require.NoError(t, err)

	m, err := shm.Map(shm.Shared, int(unix.SIGSEGV), nil) // Dump takes a number where the length is
	require.NoError(t, err)
	defer m.Close()
	p := forked(t, m, ctest.Dump)
	var exit *shm.ExitError
	require.ErrorAs(t, wait(t, p), &exit)
	assert.Equal(t, raw, exit.Status)
}

func TestWaitEndsWithItsContext(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := forked(t, m, ctest.Until)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Wait(ctx) }()
	other := make(chan error)
	go func() { other <- p.Wait(context.Background()) }()
	cancel()
	assert.ErrorIs(t, <-ended, context.Canceled)
	assert.ErrorIs(t, p.Wait(ctx), context.Canceled, "still running")
	assert.NoError(t, unix.Kill(p.Pid(), 0), "still running")

	setInt(m, 3)
	assert.Equal(t, exited(p, 3), <-other)
	assert.Equal(t, exited(p, 3), wait(t, p), "second wait")
	assert.Equal(t, exited(p, 3), p.Wait(ctx), "what is known is told, whatever the context")
}

func TestUnreachableChildIsReaped(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p, err := m.Fork(ctest.Until, nil)
	require.NoError(t, err)
	pid := p.Pid()
	for range 5 { // nor does it end the child
		runtime.GC()
	}
	assert.NoError(t, unix.Kill(pid, 0), "still running")
	setInt(m, 1)
	assert.True(t, eventually(func() bool {
		runtime.GC()
		return unix.Kill(pid, 0) == unix.ESRCH
	}))
}

func TestReapedChildIsNotSignalled(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := forked(t, m, ctest.Status)
	assert.NoError(t, wait(t, p))
	assert.ErrorIs(t, p.Signal(unix.SIGTERM), os.ErrProcessDone)
	assert.ErrorIs(t, p.Kill(), os.ErrProcessDone)
	assert.NoError(t, wait(t, p))
}

func TestSignalReachesTheChild(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := forked(t, m, ctest.Pause)
	assert.NoError(t, p.Signal(0))
	assert.ErrorIs(t, p.Signal(1000), unix.EINVAL)
	assert.NoError(t, p.Signal(unix.SIGTERM))
	assert.Equal(t, killed(p, unix.SIGTERM), wait(t, p))

	p = forked(t, m, ctest.Pause)
	assert.NoError(t, p.Signal(unix.SIGSTOP))
	assert.NoError(t, p.Signal(unix.SIGCONT))
	assert.NoError(t, p.Kill())
	assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
}

// Any number of goroutines may signal a child, also while it is reaped.
func TestSignalWhileTheChildIsReaped(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for range 20 {
		p := forked(t, m, ctest.Pause)
		var signalling sync.WaitGroup
		for range 4 {
			signalling.Add(1)
			go func() {
				defer signalling.Done()
				err := p.Signal(0)
				for ; err == nil; err = p.Signal(0) {
					runtime.Gosched()
				}
				assert.Equal(t, os.ErrProcessDone, err)
				assert.Equal(t, os.ErrProcessDone, p.Kill())
			}()
		}
		require.NoError(t, p.Kill())
		assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
		signalling.Wait()
	}
}

func TestWaitingHoldsNoThread(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	threads := func() int { return len(must(os.ReadDir("/proc/self/task"))) }
	before := threads()
	var wg sync.WaitGroup
	var children []*shm.Process
	n := times(1000, 200)
	cancelable, cancel := context.WithCancel(background)
	defer cancel()
	for i := range n {
		p := forked(t, m, ctest.Pause)
		children = append(children, p)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if i%2 == 0 { // both ways to wait
				assert.Equal(t, killed(p, unix.SIGTERM), p.Wait(cancelable))
			} else {
				assert.Equal(t, killed(p, unix.SIGTERM), p.Wait(background))
			}
		}()
	}
	stacks := make([]byte, 16<<20)
	waiting := func() (n int) { // how many of these goroutines are in the poller
		for trace := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(trace, "[IO wait") && strings.Contains(trace, "(*process).wait") {
				n++
			}
		}
		return n
	}
	assert.True(t, eventually(func() bool { return waiting() == len(children) }), "%d wait",
		waiting())
	assert.Less(t, threads()-before, len(children)/4,
		"a slow machine has some threads in system calls")
	for _, p := range children {
		assert.NoError(t, p.Signal(unix.SIGTERM))
	}
	wg.Wait()
}

func TestWaitSurvivesInterrupts(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m := newMapping(t, shm.Shared, page, nil)
	stop, err := ctest.Interrupt(unix.Gettid())
	require.NoError(t, err)
	defer stop()
	for range 20 {
		setInt(m, 7)
		p := forked(t, m, ctest.Status)
		assert.Equal(t, exited(p, 7), wait(t, p))
	}

	setInt(m, 0)
	pid, err := shm.Fork(ctest.Until, m.Addr(), m.Len())
	require.NoError(t, err)
	_, _, err = shm.Waitpid(pid, 0)
	assert.Equal(t, unix.EINTR, err, "as C has it")
	setInt(m, 9)
	for err == unix.EINTR {
		var status unix.WaitStatus
		_, status, err = shm.Waitpid(pid, 0)
		if err == nil {
			assert.Equal(t, 9, status.ExitStatus())
		}
	}
	assert.NoError(t, err)
}

func TestWaitSaysWhenTheStatusIsGone(t *testing.T) {
	ctest.IgnoreChildren(true) // the kernel reaps
	defer ctest.IgnoreChildren(false)
	m := newMapping(t, shm.Shared, page, nil)
	p := forked(t, m, ctest.Until)
	setInt(m, 1)
	err := wait(t, p)
	assert.ErrorIs(t, err, unix.ECHILD)
	assert.EqualError(t, err, fmt.Sprintf("shm: wait for child %d: waitid: no child processes: "+
		"the exit status is lost: SIGCHLD is ignored, or other code of this program has reaped "+
		"the child", p.Pid()))

	ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, shm.Call(ctx, ctest.Pause, m, nil), context.DeadlineExceeded)
	pool := newPool(t, m, 1, nil)
	_, err = pool.Call(background, ctest.Increment, 0, 4)
	assert.NoError(t, err)
	ctx, cancel = context.WithTimeout(background, 10*time.Millisecond)
	defer cancel()
	_, err = pool.Call(ctx, ctest.Pause, 0, 4)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = pool.Call(background, ctest.Increment, 0, 4)
	assert.NoError(t, err)
	assert.NoError(t, pool.Close())

	for range 300 { // those that are gone before they can be watched, too
		p, err := m.Fork(ctest.Exit, nil)
		require.NoError(t, err)
		if err := wait(t, p); !errors.Is(err, unix.ECHILD) {
			assert.ErrorIs(t, err, unix.ESRCH)
			assert.ErrorIs(t, p.Kill(), os.ErrProcessDone)
		}
	}
}

func TestOtherChildrenAreLeftAlone(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(2)
		go func() {
			defer wg.Done()
			for range 50 {
				out, err := exec.Command("sh", "-c", "echo hello; exit 3").Output()
				assert.Equal(t, "hello\n", string(out))
				var e *exec.ExitError
				if assert.ErrorAs(t, err, &e) {
					assert.Equal(t, 3, e.ExitCode())
				}
			}
		}()
		go func() {
			defer wg.Done()
			for range 100 {
				p, err := m.Fork(ctest.Status, nil)
				if assert.NoError(t, err) {
					assert.NoError(t, wait(t, p))
				}
			}
		}()
	}
	wg.Wait()
}

// os/exec holds this lock while it has a pipe open that no child but its own
// may hold.
func TestForkHonoursTheForkLock(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	syscall.ForkLock.Lock()
	forking := make(chan *shm.Process)
	go func() { forking <- must(m.Fork(ctest.Increment, nil)) }()
	assert.True(t,
		eventually(func() bool {
			return isGoroutine("[sync.", "(*RWMutex).Lock",
				"(*Mapping).Fork")
		}))
	assert.Zero(t, getInt(m), "no child yet")
	syscall.ForkLock.Unlock()
	assert.NoError(t, wait(t, <-forking))
	assert.Equal(t, 1, getInt(m))
}

// A child outlives its parent, and the memory outlives it with the child.
func TestChildOutlivesAKilledParent(t *testing.T) {
	const env = "SHM_TEST_ORPHAN"
	if os.Getenv(env) == "" {
		cmd := exec.Command(must(os.Executable()), "-test.run=^TestChildOutlivesAKilledParent$")
		cmd.Env = append(os.Environ(), env+"=1")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		var pid int
		_, err = fmt.Sscanf(must(bufio.NewReader(out).ReadString('\n')), "orphan %d", &pid)
		require.NoError(t, err)
		require.Error(t, cmd.Wait(), "it killed itself")
		pidfd, err := unix.PidfdOpen(pid, 0)
		require.NoError(t, err, "the child runs on")
		defer unix.Close(pidfd)
		assert.NoError(t, unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0))
		return
	}
	m := newMapping(t, shm.Shared, page, nil)
	p := forked(t, m, ctest.Pause)
	fmt.Printf("orphan %d\n", p.Pid())
	unix.Kill(os.Getpid(), unix.SIGKILL)
}

// pidfdsOf returns the descriptors of a process that is not reaped.
func pidfdsOf(pid int) (names []string) {
	for _, entry := range must(os.ReadDir("/proc/self/fd")) {
		info, _ := os.ReadFile("/proc/self/fdinfo/" + entry.Name())
		if strings.Contains(string(info), fmt.Sprintf("\nPid:\t%d\n", pid)) {
			names = append(names, entry.Name())
		}
	}
	return names
}

func TestWaitClosesWhatForkOpened(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := forked(t, m, ctest.Pause)
	names := pidfdsOf(p.Pid())
	require.Len(t, names, 1)
	require.NoError(t, p.Kill())
	assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
	target, _ := os.Readlink("/proc/self/fd/" + names[0])
	assert.NotContains(t, target, "pidfd")
}

func TestForkTimeIsMeasured(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	start := time.Now()
	p := forked(t, m, ctest.Status)
	assert.NoError(t, wait(t, p))
	assert.Greater(t, p.ForkTime(), time.Microsecond, "no kernel is so fast")
	assert.LessOrEqual(t, p.ForkTime(), time.Since(start))
}

var manyForked atomic.Bool

// Thousands of forks, by both ways of waiting, leave no process, descriptor, mapping
// or goroutine.
func TestManyForksLeaveNothing(t *testing.T) {
	forks := times(2_000, 200)
	if n := os.Getenv("SHM_FORKS"); n != "" && !manyForked.Swap(true) { // once is enough for -count
		forks = must(strconv.Atoi(n))
	}
	m := newMapping(t, shm.Shared, page, nil)
	goroutines, descriptors, mapped := runtime.NumGoroutine(), openDescriptors(), mappings()
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range forks / 4 {
				if worker == 0 {
					pid, err := shm.Fork(ctest.Exit, nil, 5)
					if !assert.NoError(t, err) {
						return
					}
					wpid, status, err := shm.Waitpid(pid, 0)
					if !assert.NoError(t, err) || !assert.Equal(t, pid, wpid) ||
						!assert.Equal(t, unix.WaitStatus(5<<8), status) {
						return
					}
					continue
				}
				p, err := m.Fork(ctest.Increment, nil)
				if !assert.NoError(t, err) || !assert.NoError(t, wait(t, p)) {
					return
				}
			}
		}()
	}
	wg.Wait()
	_, _, err := shm.Waitpid(-1, unix.WNOHANG)
	assert.Equal(t, unix.ECHILD, err, "no child, dead or alive")
	assert.True(t, eventually(func() bool {
		runtime.GC()
		return runtime.NumGoroutine() <= goroutines && openDescriptors() <= descriptors &&
			mappings() <= mapped
	}), "%d goroutines, %d before; %d descriptors, %d before; %d mappings, %d before",
		runtime.NumGoroutine(), goroutines, openDescriptors(), descriptors, mappings(), mapped)
}

func TestRawForkPassesItsArguments(t *testing.T) {
	var where [2]byte
	pid, err := shm.Fork(ctest.Exit, unsafe.Pointer(&where), 77)
	require.NoError(t, err)
	wpid, status, err := shm.Waitpid(pid, 0)
	assert.NoError(t, err)
	assert.Equal(t, pid, wpid)
	assert.Equal(t, 77, status.ExitStatus())
	_, _, err = shm.Waitpid(pid, 0)
	assert.Equal(t, unix.ECHILD, err)
	assert.False(t, strings.Contains(fmt.Sprint(err), "shm"), "a plain errno")
}
