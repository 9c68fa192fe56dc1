//go:build linux && cgo

package shm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/testenv"
)

// What goes wrong around children, and that nothing is left of it.

// leavesNothing wants, once a test is over, no child, descriptor, mapping,
// report or goroutine more than now, and the Go heap to be copied by fork
// again. It waits until earlier tests' children are gone, too.
func leavesNothing(t *testing.T) {
	t.Helper()
	r, w, err := os.Pipe() // the poller's own descriptors are there from now on
	require.NoError(t, err)
	require.NoError(t, errors.Join(r.Close(), w.Close()))
	signals := make(chan os.Signal, 1) // and os/signal's goroutine
	signal.Notify(signals, unix.SIGCHLD)
	signal.Stop(signals)
	runtime.GC() // and what earlier tests forgot is gone
	require.True(t, eventually(func() bool {
		return shm.ReadCounters().Live == 0 && shm.ControlPages() == 0
	}))
	goroutines, descriptors, mapped := runtime.NumGoroutine(), openDescriptors(), mappings()
	t.Cleanup(func() {
		assert.True(t, eventually(func() bool { return shm.ReadCounters().Live == 0 }),
			"%d children", shm.ReadCounters().Live)
		_, _, err := shm.Waitpid(-1, unix.WNOHANG)
		assert.Equal(t, unix.ECHILD, err, "no child, dead or alive")
		assert.True(t, eventually(func() bool { return runtime.NumGoroutine() <= goroutines }),
			"%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
		assert.True(t, eventually(func() bool { return openDescriptors() <= descriptors }),
			"%d descriptors, %d before", openDescriptors(), descriptors)
		assert.True(t, eventually(func() bool { runtime.GC(); return mappings() <= mapped }),
			"%d mappings, %d before", mappings(), mapped)
		assert.True(t, eventually(func() bool { return shm.ControlPages() == 0 }),
			"%d control pages", shm.ControlPages())
		assert.NotContains(t, string(must(os.ReadFile("/proc/self/smaps"))), " dc ",
			"memory that fork leaves out")
	})
}

// keptFDs are descriptors that are open all the time.
var keptFDs = func() (fds []int) {
	for range 2 {
		fds = append(fds, must(unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)))
	}
	return fds
}()

// setUps are the ways to set a child up, from nothing to all.
var setUps = map[string]*shm.ForkConfig{
	"plain":          nil,
	"NoCrashReport":  {NoCrashReport: true},
	"Lean":           {Lean: true},
	"KillWithParent": {KillWithParent: true},
	"all": {
		KillWithParent: true, ProcessGroup: true, Lean: true, Nice: 1, CloseFDs: true,
		KeepFDs: keptFDs,
		Limits: []shm.Limit{{Resource: unix.RLIMIT_CORE},
			{Resource: unix.RLIMIT_CPU, Rlimit: unix.Rlimit{Cur: 100, Max: 100}}},
	},
}

var interposer = compileOnce("interpose.so", "-shared", "-fPIC",
	"internal/ctest/testdata/interpose.c")

// interposed is inOwnProcess, with testdata/interpose.c between the shim and
// libc.
func interposed(t *testing.T) bool {
	t.Helper()
	testenv.NeedDynamic(t)
	if os.Getenv("SHM_TEST_PROCESS") != t.Name() {
		t.Setenv("LD_PRELOAD", interposer(t))
	}
	return inOwnProcess(t, nil)
}

// A signal may kill a child at any moment of its set-up. The fork does not hang,
// and Wait returns that signal.
func TestChildKilledAtEachStepOfItsSetUp(t *testing.T) {
	if !interposed(t) {
		return
	}
	leavesNothing(t)
	for name, cfg := range setUps {
		m := newMapping(t, shm.Shared, page, nil)
		step := 1
		for ; ; step++ {
			t.Setenv("SHM_TEST_STEP", strconv.Itoa(step))
			p, err := m.Fork(ctest.Increment, cfg)
			require.NoError(t, err, "%s, step %d", name, step)
			if err = wait(t, p); err == nil {
				break
			}
			require.Equal(t, killed(p, unix.SIGKILL), err, "%s, step %d", name, step)
		}
		t.Setenv("SHM_TEST_STEP", "")
		assert.Greater(t, step, 64, "signals alone are as many")
		assert.Equal(t, 1, getInt(m), name)
		t.Log(name, step-1, "steps")
	}
}

// A child whose set-up cannot be done, and that is killed when it would say so.
func TestChildKilledAtEachStepOfASetUpThatFails(t *testing.T) {
	if !interposed(t) {
		return
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for step := 1; ; step++ {
		t.Setenv("SHM_TEST_STEP", strconv.Itoa(step))
		p, err := m.Fork(ctest.Increment, &shm.ForkConfig{Limits: []shm.Limit{{Resource: 99}}})
		if err != nil {
			assert.EqualError(t, err, fmt.Sprintf("shm: fork %d bytes: ForkConfig.Limits[0] "+
				"(resource 99, soft 0, hard 0): setrlimit: invalid argument", page))
			break
		}
		require.Equal(t, killed(p, unix.SIGKILL), wait(t, p), "step %d", step)
	}
	t.Setenv("SHM_TEST_STEP", "")
	assert.Zero(t, getInt(m), "no child ran")
}

func TestForkWithoutMemory(t *testing.T) {
	if !interposed(t) {
		return
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	before := shm.ReadCounters()
	for name, cfg := range setUps {
		for _, errno := range []unix.Errno{unix.ENOMEM, unix.EAGAIN} {
			t.Setenv("SHM_TEST_FORK_ERRNO", strconv.Itoa(int(errno)))
			_, err := m.Fork(ctest.Increment, cfg)
			assert.ErrorIs(t, err, errno, name)
			assert.EqualError(t, err, fmt.Sprintf("shm: fork %d bytes: fork: ", page)+errno.Error(),
				name)
			assert.ErrorIs(t, shm.Call(background, ctest.Increment, m, cfg), errno, name)
			if cfg == nil {
				cfg = new(shm.ForkConfig)
			}
			_, err = shm.NewPool(m, 2, &shm.PoolConfig{Fork: *cfg})
			assert.ErrorIs(t, err, errno, name)
		}
		t.Setenv("SHM_TEST_FORK_ERRNO", "")
		assert.NoError(t, shm.Call(background, ctest.Increment, m, cfg), name)
	}
	after := shm.ReadCounters()
	assert.Equal(t, before.Failed+uint64(len(setUps)*2*3), after.Failed)
	assert.Equal(t, before.Forks+uint64(len(setUps)), after.Forks)
	assert.Equal(t, len(setUps), getInt(m), "no other child ran")
}

// The memory for the control page cannot be had.
func TestForkWithoutAddressSpace(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	leavesNothing(t)
	testenv.SpareThreads()
	testenv.SpareMemory()
	m := newMapping(t, shm.Shared, page, nil)
	// The first Lean fork looks for the heap.
	require.NoError(t,
		shm.Call(background, ctest.Fresh, m, &shm.ForkConfig{Lean: true, NoCrashReport: true}))
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_AS, &before))
	for name, cfg := range setUps {
		if name == "NoCrashReport" { // needs none
			continue
		}
		require.NoError(t,
			unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: 1 << 20, Max: before.Max}))
		_, err := m.Fork(ctest.Increment, cfg)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &before))
		// musl's malloc, which is called before mmap, may have nothing left.
		assert.Regexp(t,
			fmt.Sprintf("^shm: fork %d bytes: (mmap|malloc): cannot allocate memory$", page), err,
			name)
		assert.ErrorIs(t, err, unix.ENOMEM)
	}
	assert.Zero(t, getInt(m), "no child ran")
	assert.NoError(t, shm.Call(background, ctest.Increment, m, nil))
}

// With no process left to have, each way to fork says so, and does nothing
// else.
func TestForkWithoutProcessesInAnyWay(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	needSetuid(t)
	leavesNothing(t)
	const user = 54322
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	testenv.SpareThreads()
	if os.Getuid() == 0 {
		require.NoError(t, syscall.Setuid(user))
	}
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NPROC, &before))
	refused := func(cfg *shm.ForkConfig) error {
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 1, Max: before.Max}))
		_, err := m.Fork(ctest.Increment, cfg)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NPROC, &before))
		assert.ErrorIs(t, err, unix.EAGAIN)
		return err
	}
	for name, cfg := range setUps {
		assert.EqualError(t, refused(cfg),
			fmt.Sprintf("shm: fork %d bytes: fork: resource temporarily unavailable", page), name)
	}
	assert.Zero(t, getInt(m), "no child ran")
	assert.NoError(t, shm.Call(background, ctest.Increment, m, setUps["all"]))
}

func TestForkWithFullDescriptorTableInAnyWay(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	// The first Lean fork looks for the heap.
	assert.NoError(t, shm.Call(background, ctest.Increment, m, setUps["Lean"]))
	fillDescriptorTable(t)
	for name, cfg := range setUps {
		_, err := m.Fork(ctest.Increment, cfg)
		assert.ErrorIs(t, err, unix.EMFILE, name)
		assert.ErrorContains(t, err, "open files", name)
	}
	assert.Equal(t, 1, getInt(m), "no other child ran")
	_, err := shm.NewPool(m, 1, nil)
	assert.EqualError(t, err,
		fmt.Sprintf("shm: fork %d bytes: socketpair: too many open files", page))
}

// The last descriptor goes between the fork and the pidfd: the child, which no
// one could watch, is not kept.
func TestForkThatLosesTheLastDescriptor(t *testing.T) {
	if !interposed(t) {
		return
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	assert.NoError(t, shm.Call(background, ctest.Increment, m, setUps["Lean"]))
	isOpen := func(fd int) bool {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		return err == nil
	}
	var free []int
	for fd := range 200 {
		if !isOpen(fd) {
			free = append(free, fd)
		}
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 200, Max: 200}))
	for name, cfg := range setUps {
		t.Setenv("SHM_TEST_FORK_FILLS", "1")
		_, err := m.Fork(ctest.Pause, cfg)
		t.Setenv("SHM_TEST_FORK_FILLS", "")
		assert.EqualError(t, err,
			fmt.Sprintf("shm: fork %d bytes: pidfd_open: too many open files", page), name)
		for _, fd := range free {
			require.NoError(t, unix.Close(fd), name)
		}
	}
}

// The parent is killed before the child has asked to die with it.
func TestKillWithParentThatIsKilledAtOnce(t *testing.T) {
	const env = "SHM_TEST_ORPHAN"
	if os.Getenv(env) != "" {
		const longer = 600_000 // than the limit below, in ms
		_, err := newMapping(t, shm.Shared, longer, nil).Fork(ctest.Sleep,
			&shm.ForkConfig{KillWithParent: true})
		require.NoError(t, err)
		select {}
	}
	testenv.NeedDynamic(t)
	for range 3 {
		r, w, err := os.Pipe() // all that lives of it holds the writing end
		require.NoError(t, err)
		defer r.Close()
		cmd := exec.Command(must(os.Executable()), "-test.run=^"+t.Name()+"$", "-test.count=1")
		cmd.Env = append(os.Environ(), env+"=3", "LD_PRELOAD="+interposer(t))
		cmd.ExtraFiles = []*os.File{w}
		require.NoError(t, cmd.Start())
		w.Close()
		require.NoError(t, r.SetReadDeadline(time.Now().Add(5*time.Minute)))
		said := make([]byte, 6)
		_, err = io.ReadFull(r, said)
		require.NoError(t, err)
		require.Equal(t, "forked", string(said))
		require.NoError(t, cmd.Process.Kill())
		rest, err := io.ReadAll(r)
		assert.NoError(t, err, "the child ends")
		assert.Empty(t, rest)
		assert.Error(t, cmd.Wait())
	}
}

// A child that may not be killed any more makes Call no hang.
func TestCallWhoseChildMayNotBeKilled(t *testing.T) {
	if !inOwnProcess(t, nil) || os.Getuid() != 0 { // others may kill all that they fork
		return
	}
	needSetuid(t)
	m := newMapping(t, shm.Shared, page, nil)
	ctx, cancel := context.WithCancel(background)
	called := make(chan error)
	go func() { called <- shm.Call(ctx, ctest.Until, m, nil) }()
	require.True(t, eventually(func() bool { return shm.ReadCounters().Live == 1 }))
	require.NoError(t, syscall.Setuid(54323))
	cancel()
	err := <-called
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, unix.EPERM)
	assert.ErrorContains(t, err, "pidfd_send_signal")
	setInt(m, 1)
	assert.True(t, eventually(func() bool { return shm.ReadCounters().Live == 0 }),
		"it is reaped when it ends")
}

// A child may fork: its parent waits for it alone, and its own child's crash is
// not its.
func TestChildThatForks(t *testing.T) {
	leavesNothing(t)
	for name, cfg := range setUps {
		m := newMapping(t, shm.Shared, 7, &shm.Config{Technique: shm.Anonymous})
		p := forkedWith(t, m, ctest.Leave, cfg)
		assert.Equal(t, exited(p, 7), wait(t, p), name)
		setInt(m, 1) // the one that it left ends, too

		p = forkedWith(t, newMapping(t, shm.Shared, 3, nil), ctest.Chain, cfg)
		assert.NoError(t, wait(t, p), name)

		p = forkedWith(t, m, ctest.Grief, cfg)
		var exit *shm.ExitError
		require.ErrorAs(t, wait(t, p), &exit)
		assert.Equal(t, unix.SIGSEGV, exit.Status.Signal(), name)
		if name != "NoCrashReport" && assert.NotNil(t, exit.Crash, name) {
			assert.Zero(t, exit.Crash.Code, "%s: it was sent", name)
			assert.Zero(t, exit.Crash.Addr, name)
		}
	}
}

func TestChildThatClosesEverything(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for name, cfg := range setUps {
		assert.NoError(t, wait(t, forkedWith(t, m, ctest.CloseAll, cfg)), name)
	}
}

// All who wait get the same answer, however they wait.
func TestWaitTellsAllWaitersTheSame(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := forked(t, m, ctest.Until)
	ctx, cancel := context.WithTimeout(background, 5*time.Minute)
	defer cancel()
	answers := make(chan error)
	for i := range 60 {
		go func() {
			switch i % 3 {
			case 0:
				answers <- p.Wait(ctx)
			case 1:
				answers <- p.Wait(background)
			default:
				_, err := p.WaitChange(ctx)
				assert.NoError(t, err)
				answers <- p.Wait(ctx)
			}
		}()
	}
	setInt(m, 5)
	first := <-answers
	assert.Equal(t, exited(p, 5), first)
	for range 59 {
		assert.Same(t, first, <-answers)
	}
}
