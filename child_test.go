//go:build linux && cgo

package shm_test

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
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

// forkedWith is forked, with a config.
func forkedWith(t testing.TB, m *shm.Mapping, child shm.ChildFunc,
	cfg *shm.ForkConfig) *shm.Process {
	t.Helper()
	p, err := m.Fork(child, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = p.Kill()
		_ = wait(t, p)
	})
	return p
}

// crashOf forks a child that crashes, see child_crash.
func crashOf(t *testing.T, how int, cfg *shm.ForkConfig) *shm.ExitError {
	m := newMapping(t, shm.Shared, how, &shm.Config{Technique: shm.Anonymous})
	var exit *shm.ExitError
	require.ErrorAs(t, wait(t, forkedWith(t, m, ctest.Crash, cfg)), &exit)
	return exit
}

func TestCrashIsReported(t *testing.T) {
	for how, want := range []struct {
		sig    unix.Signal
		fault  bool
		symbol string
	}{
		{unix.SIGSEGV, true, "crash_here"},
		{unix.SIGFPE, true, "child_crash"},
		{unix.SIGILL, true, "child_crash"},
		{unix.SIGSEGV, true, ""}, // on its second stack, as the first is full
		{unix.SIGABRT, false, ""},
		{unix.SIGBUS, true, "child_crash"},
	} {
		if want.sig == unix.SIGFPE && runtime.GOARCH != "amd64" && runtime.GOARCH != "386" {
			continue // a division by zero has a result there
		}
		for _, cfg := range []shm.ForkConfig{{}, {Lean: true}, {KillWithParent: true}} {
			exit := crashOf(t, how+1, &cfg)
			assert.Equal(t, want.sig, exit.Status.Signal(), "%v", exit)
			require.NotNil(t, exit.Crash, "%v", exit)
			assert.NotZero(t, exit.Crash.PC)
			assert.NotEmpty(t, exit.Crash.Module)
			assert.Equal(t, want.fault, exit.Crash.Code > 0, "%v", exit)
			if want.symbol != "" {
				assert.Equal(t, must(os.Executable()), exit.Crash.Module)
			}
			if want.symbol != "" && hasSymbols() {
				assert.Equal(t, want.symbol, strings.TrimSuffix(exit.Crash.Symbol, ".cold"), "%v",
					exit)
			}
			t.Log(exit)
			if how == 0 {
				assert.Equal(t, uintptr(16), exit.Crash.Addr)
			}
			if how == 0 && hasSymbols() {
				assert.Regexp(t,
					`^child \d+: signal: segmentation fault( \(core dumped\))?, address 0x10, at crash_here\+0x[0-9a-f]+ \(/.*\+0x[0-9a-f]+\)$`, exit.Error())
			}
			if want.sig == unix.SIGABRT && !testenv.IsStatic() {
				// An abort has no address, but it has a place.
				assert.Regexp(t,
					`^child \d+: signal: aborted( \(core dumped\))?, at .*/libc.*\+0x[0-9a-f]+\)?(, called by .*)?$`,
					exit.Error())
			}
		}
		plain := crashOf(t, how+1, &shm.ForkConfig{NoCrashReport: true})
		assert.Equal(t, want.sig, plain.Status.Signal())
		assert.Nil(t, plain.Crash)
	}
}

// A child has a stack of the usual size in whatever way it was forked, also
// where libc's threads have a small one. What runs over the end of it, by an
// array that is large too, is told as a crash.
func TestChildHasARoomyStack(t *testing.T) {
	const roomy = 4 << 20
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_STACK, &limit))
	if limit.Cur < 2*roomy {
		t.Skipf("RLIMIT_STACK is %d bytes here: less than a stack usually has", limit.Cur)
	}
	m := newMapping(t, shm.Shared, roomy, &shm.Config{Technique: shm.Anonymous})
	over := newMapping(t, shm.Shared, 2*roomy+roomy/8, &shm.Config{Technique: shm.Anonymous})
	for _, cfg := range []shm.ForkConfig{{}, {Lean: true}, {KillWithParent: true}} {
		assert.NoError(t, wait(t, forkedWith(t, m, ctest.Stack, &cfg)), "%+v", cfg)
		if ctest.IsGlibc() { // whose guard, a page, such an array steps over
			continue
		}
		var exit *shm.ExitError
		require.ErrorAs(t, wait(t, forkedWith(t, over, ctest.Stack, &cfg)), &exit)
		assert.Equal(t, unix.SIGSEGV, exit.Status.Signal(), "%v", exit)
		assert.NotNil(t, exit.Crash, "%v", exit)
	}
	pool, err := shm.NewPool(m, 1, nil)
	require.NoError(t, err)
	defer pool.Close()
	result, err := pool.Call(background, ctest.Stack, 0, roomy)
	assert.NoError(t, err)
	assert.Zero(t, result)
}

// hasSymbols says whether this program has a symbol table: go test leaves it
// out, go test -c does not.
func hasSymbols() bool {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer f.Close()
	all, _ := f.Symbols()
	return len(all) > 0
}

// Where a new version of the program has taken its place, the report is still
// of the one that runs. It runs as a part of tests/build,
// TestCrashIsReportedByName.
func TestCrashOfAReplacedProgram(t *testing.T) {
	if os.Getenv("SHM_TEST_PROCESS") != t.Name() {
		return
	}
	program := must(os.Executable())
	other := must(os.ReadFile("/proc/self/exe"))
	require.NoError(t, os.Remove(program))
	require.NoError(t, os.WriteFile(program, other[:len(other)/2], 0o755))
	exit := crashOf(t, 1, nil)
	assert.Equal(t, "crash_here", exit.Crash.Symbol)
	assert.Equal(t, program, exit.Crash.Module)
}

// A library that the child loaded itself its parent does not know, and may have
// another one in that place.
func TestCrashInWhatTheChildLoaded(t *testing.T) {
	testenv.NeedDynamic(t)
	testenv.NeedCC(t)
	dir := t.TempDir()
	build := func(name, code string, args ...string) string {
		path := filepath.Join(dir, name)
		cmd := exec.Command(cc(),
			append([]string{"-shared", "-fPIC", "-o", path, "-xc", "-"}, args...)...)
		cmd.Stdin = strings.NewReader(code)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return path
	}
	const code = "int fall(void) { return *(volatile int *)32; }"
	other := build("other.so", "int other(void) { return 1; } int another(void) { return 2; }")
	for _, plugin := range []string{build("plugin.so", code), build("stripped.so", code, "-s")} {
		m := newMapping(t, shm.Shared, page, nil)
		copy(m.Bytes(), plugin+"\x00")
		p := forked(t, m, ctest.Plugin)
		require.NoError(t, unix.Waitid(unix.P_PID, p.Pid(), nil, unix.WEXITED|unix.WNOWAIT, nil))
		require.True(t, ctest.Load(other)) // where the child had the plugin, as like as not
		var exit *shm.ExitError
		require.ErrorAs(t, wait(t, p), &exit)
		require.NotNil(t, exit.Crash, "%v", exit)
		assert.Equal(t, uintptr(32), exit.Crash.Addr)
		assert.Equal(t, plugin, exit.Crash.Module)
		assert.Empty(t, exit.Crash.Symbol,
			"this process does not open a file because a child names it")
		assert.Less(t, exit.Crash.Offset, uintptr(page*4))
		t.Log(exit)
	}
}

// What is no address at all is not told as one.
func TestCrashWithoutAnAddress(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Log("here it is one")
		return
	}
	exit := crashOf(t, 7, nil)
	assert.Equal(t, unix.SIGSEGV, exit.Status.Signal())
	assert.NotContains(t, exit.Error(), "address")
	assert.Contains(t, exit.Error(), ", at ")
}

// Who sends a signal that a crash would also give finds the child dead of it.
func TestSentSignalIsNoCrash(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE,
		unix.SIGABRT} {
		p := forked(t, newMapping(t, shm.Shared, page, nil), ctest.Pause)
		require.NoError(t, p.Signal(sig))
		var exit *shm.ExitError
		require.ErrorAs(t, wait(t, p), &exit)
		assert.Equal(t, sig, exit.Status.Signal())
		assert.NotContains(t, exit.Error(), "address")
		if exit.Crash != nil { // none if it was sent before the handler was there
			assert.LessOrEqual(t, exit.Crash.Code, int32(0))
		}
	}
}

func TestLimitsAndNiceAreInPlace(t *testing.T) {
	for _, kill := range []bool{false, true} {
		m := newMapping(t, shm.Shared, page, nil)
		limits := []shm.Limit{
			{Resource: unix.RLIMIT_NOFILE, Rlimit: unix.Rlimit{Cur: 77, Max: 78}},
			{Resource: unix.RLIMIT_CPU, Rlimit: unix.Rlimit{Cur: 1234, Max: 4321}},
		}
		assert.NoError(t,
			wait(t,
				forkedWith(t, m, ctest.Limits,
					&shm.ForkConfig{Limits: limits, Nice: 3, Lean: true, KillWithParent: kill})))
		here, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		require.NoError(t, err)
		got := must(shm.Slice[int](m, 0, 3))
		assert.Equal(t, []int{77, 1234, min(19, 20-here+3)}, got)
	}
}

func TestSetUpThatFailsIsForksError(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	for _, lean := range []bool{false, true} {
		_, err := m.Fork(ctest.Increment,
			&shm.ForkConfig{Lean: lean, Limits: []shm.Limit{{Resource: 99}}})
		assert.EqualError(t, err, fmt.Sprintf("shm: fork %d bytes: ForkConfig.Limits[0] "+
			"(resource 99, soft 0, hard 0): setrlimit: invalid argument", page))
		assert.ErrorIs(t, err, unix.EINVAL)
	}
	_, err := m.Fork(ctest.Increment, &shm.ForkConfig{Limits: make([]shm.Limit, 17)})
	assert.ErrorIs(t, err, unix.EINVAL)
	_, err = m.Fork(ctest.Increment, &shm.ForkConfig{CloseFDs: true, KeepFDs: []int{-1}})
	assert.ErrorIs(t, err, unix.EBADF)
	assert.Zero(t, getInt(m), "no child ran")
}

func TestCloseFDsLeavesKeepFDsOpen(t *testing.T) {
	var opened []int
	for range 5 {
		f, err := os.Open("/dev/null")
		require.NoError(t, err)
		defer f.Close()
		opened = append(opened, int(f.Fd()))
	}
	m := newMapping(t, shm.Shared, page, nil)
	standard := 0
	for fd := range 3 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			standard++
		}
	}
	for _, keep := range [][]int{nil, {opened[3], 1, opened[0], opened[0]},
		{opened[4], opened[2], opened[1]}} {
		above := map[int]bool{}
		for _, fd := range keep {
			above[fd] = fd > 2
		}
		n := standard
		for _, yes := range above {
			if yes {
				n++
			}
		}
		p := forkedWith(t, m, ctest.FDs, &shm.ForkConfig{CloseFDs: true, KeepFDs: keep})
		assert.Equal(t, exited(p, n), wait(t, p), "%v", keep)
	}
}

func TestLeanChildLacksTheGoHeapAlone(t *testing.T) {
	leavesNothing(t) // nor has an earlier test's child left memory that is marked
	m := newMapping(t, shm.Shared, page, nil)
	heap := new([1 << 20]byte)
	where := must(shm.At[uintptr](m, 0))
	*where = uintptr(unsafe.Pointer(heap))
	assert.True(t, shm.GoHeap(*where))
	assert.False(t, shm.GoHeap(uintptr(m.Addr())))
	assert.NoError(t, wait(t, forkedWith(t, m, ctest.TouchGo, nil)))
	var exit *shm.ExitError
	require.ErrorAs(t, wait(t, forkedWith(t, m, ctest.TouchGo, &shm.ForkConfig{Lean: true})), &exit)
	assert.Equal(t, unix.SIGSEGV, exit.Status.Signal())
	assert.Equal(t, *where, exit.Crash.Addr)
	assert.NoError(t, wait(t, forkedWith(t, m, ctest.TouchGo, nil)),
		"it is there for those that follow")
	assert.NoError(t, wait(t, forkedWith(t, m, ctest.Malloc, &shm.ForkConfig{Lean: true})))
	assert.NotContains(t, string(must(os.ReadFile("/proc/self/smaps"))), " dc ",
		"no memory stays marked as not to copy")
	runtime.KeepAlive(heap)
}

// The parent's heap grows, shrinks and is collected while Lean children are
// forked and programs run.
func TestLeanDoesNotDisturbTheParent(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	stop := make(chan struct{})
	var work sync.WaitGroup
	for g := range 3 {
		work.Add(1)
		go func() {
			defer work.Done()
			var held [][]byte
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				b := make([]byte, 1<<(10+i%12))
				for j := range b {
					b[j] = byte(g + j)
				}
				if held = append(held, b); len(held) > 64 {
					for _, b := range held {
						for j := range b {
							if b[j] != byte(g+j) {
								panic("the heap is damaged")
							}
						}
					}
					held = nil
					runtime.GC()
				}
			}
		}()
	}
	var forks sync.WaitGroup
	each := times(50, 10)
	for range 4 {
		forks.Add(1)
		go func() {
			defer forks.Done()
			for range each {
				p, err := m.Fork(ctest.Count, &shm.ForkConfig{Lean: true})
				if assert.NoError(t, err) {
					assert.NoError(t, p.Wait(context.Background()))
				}
			}
		}()
	}
	for range 20 {
		assert.NoError(t, exec.Command("true").Run())
	}
	forks.Wait()
	close(stop)
	work.Wait()
	assert.Equal(t, 4*each*10000, getInt(m))
}

func TestKillWithParent(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	// A thread that ends takes no child with it.
	children, threads := make(chan *shm.Process), make(chan int)
	go func() {
		runtime.LockOSThread() // and is not unlocked: the thread ends with the goroutine
		children <- forkedWith(t, m, ctest.Until, &shm.ForkConfig{KillWithParent: true})
		threads <- unix.Gettid()
	}()
	p, thread := <-children, <-threads
	require.True(t, thread == os.Getpid() || eventually(func() bool {
		// Go keeps the first thread.
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread))
		return errors.Is(err, os.ErrNotExist)
	}))
	assert.NoError(t, p.Signal(0))
	setInt(m, 9)
	assert.Equal(t, exited(p, 9), wait(t, p))
}

// A hundred children end with their parent, even if that is killed.
func TestKillWithParentThatIsKilled(t *testing.T) {
	const env, n = "SHM_TEST_ORPHAN", 100
	if os.Getenv(env) == t.Name() {
		m := newMapping(t, shm.Shared, page, nil)
		for range n {
			_, err := m.Fork(ctest.Pause, &shm.ForkConfig{KillWithParent: true})
			require.NoError(t, err)
		}
		newPool(t, m, 5, nil) // whose children do so unasked
		os.Stdout.WriteString("ready\n")
		select {}
	}
	r, w, err := os.Pipe() // all that lives of it holds the writing end
	require.NoError(t, err)
	defer r.Close()
	cmd := exec.Command(must(os.Executable()), "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.ExtraFiles = []*os.File{w}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	w.Close()
	line := make([]byte, 6)
	_, err = out.Read(line)
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(line))
	require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
	require.NoError(t, r.SetReadDeadline(time.Now().Add(5*time.Minute)))
	nothing, err := r.Read(line)
	assert.Zero(t, nothing)
	assert.ErrorContains(t, err, "EOF", "all have ended")
	assert.Error(t, cmd.Wait())
}

func TestCallLeavesNoChild(t *testing.T) {
	leavesNothing(t)
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		ctx := context.Background()
		m := newMapping(t, sharing, page, cfg)
		assert.NoError(t, shm.Call(ctx, ctest.Increment, m, nil))
		if sharing == shm.Shared {
			assert.Equal(t, 1, getInt(m))
		}
		var exit *shm.ExitError
		setInt(m, 7)
		assert.ErrorAs(t, shm.Call(ctx, ctest.Status, m, nil), &exit)
		assert.Equal(t, 7, exit.Status.ExitStatus())

		before := shm.ReadCounters()
		ending, cancel := context.WithCancel(ctx)
		defer cancel()
		called := make(chan error)
		go func() { called <- shm.Call(ending, ctest.Pause, m, nil) }()
		require.True(t, eventually(func() bool { return shm.ReadCounters().Live == 1 }))
		cancel()
		assert.ErrorIs(t, <-called, context.Canceled)
		assert.ErrorIs(t, shm.Call(ending, ctest.Increment, m, nil), context.Canceled,
			"forks nothing")
		ended, cancelEnded := context.WithTimeout(ctx, 0)
		defer cancelEnded()
		assert.ErrorIs(t, shm.Call(ended, ctest.Increment, m, nil), context.DeadlineExceeded,
			"nor this")
		after := shm.ReadCounters()
		assert.Equal(t, before.Forks+1, after.Forks)
		assert.Equal(t, before.Signals["SIGKILL"]+1, after.Signals["SIGKILL"])
		assert.Zero(t, after.Live)
	})
}

// A context that ends just as the child does makes no end of its into a kill.
func TestCallTellsWhatBecameOfTheChild(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 3, nil)
	var ended, missed int
	took := time.Millisecond // it comes to be about what the child takes
	for i := 0; i < 100 || ended < 10 || missed < 10; i++ {
		before := shm.ReadCounters()
		ctx, cancel := context.WithTimeout(background, took)
		err := shm.Call(ctx, ctest.Exit, m, nil)
		cancel()
		after := shm.ReadCounters()
		var exit *shm.ExitError
		switch {
		case errors.As(err, &exit):
			assert.Equal(t, 3, exit.Status.ExitStatus())
			assert.Equal(t, before.Exits+1, after.Exits)
			took -= took / 10
			ended++
		default:
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, before.Signals["SIGKILL"]+after.Forks-before.Forks,
				after.Signals["SIGKILL"], "%v", err)
			took += took/10 + 1
			missed++
		}
	}
}

func TestWaitChangeTellsOfStops(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := forked(t, m, ctest.Pause)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for range 3 {
		require.NoError(t, p.Signal(unix.SIGSTOP))
		status, err := p.WaitChange(ctx)
		require.NoError(t, err)
		assert.True(t, status.Stopped())
		assert.Equal(t, unix.SIGSTOP, status.StopSignal())
		require.NoError(t, p.Signal(unix.SIGCONT))
		status, err = p.WaitChange(ctx)
		require.NoError(t, err)
		assert.True(t, status.Continued())
	}
	short, cancelShort := context.WithTimeout(ctx, time.Millisecond)
	defer cancelShort()
	_, err := p.WaitChange(short)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Nil(t, p.Usage())
	require.NoError(t, p.Kill())
	status, err := p.WaitChange(ctx)
	require.NoError(t, err)
	assert.Equal(t, unix.SIGKILL, status.Signal())
	assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
	require.NotNil(t, p.Usage())
	assert.Positive(t, p.Usage().Maxrss)
	_, err = p.Memory()
	assert.ErrorIs(t, err, os.ErrProcessDone)
}

// Of many who wait for changes each change is told to one, and the end to all.
func TestWaitChangeTellsEachOnce(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := forked(t, m, ctest.Pause)
	changes, ends := make(chan unix.WaitStatus, 100), make(chan unix.WaitStatus, 100)
	for range 5 {
		go func() {
			for {
				status, err := p.WaitChange(background)
				if !assert.NoError(t, err) || !status.Stopped() && !status.Continued() {
					ends <- status
					return
				}
				changes <- status
			}
		}()
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Add(1)
	go func() { // whose ends are told by the same signal
		defer others.Done()
		for {
			select {
			case <-stop:
				return
			default:
				assert.NoError(t, shm.Call(background, ctest.Increment, m, nil))
			}
		}
	}()
	for range 20 {
		require.NoError(t, p.Signal(unix.SIGSTOP))
		assert.True(t, (<-changes).Stopped())
		require.NoError(t, p.Signal(unix.SIGCONT))
		assert.True(t, (<-changes).Continued())
	}
	close(stop)
	others.Wait()
	require.NoError(t, p.Kill())
	for range 5 {
		assert.Equal(t, unix.SIGKILL, (<-ends).Signal())
	}
	assert.Empty(t, changes)
}

func TestMemoryTellsWhatWasWritten(t *testing.T) {
	const length = 8 << 20
	m := newMapping(t, shm.Private, length, nil)
	fill(m.Bytes(), 1)
	p := forked(t, m, ctest.Pause)
	before, err := p.Memory()
	require.NoError(t, err)
	assert.Positive(t, before.Pss)
	// The parent gets the copies, and the child keeps the pages.
	fill(m.Bytes(), 2)
	after, err := p.Memory()
	require.NoError(t, err)
	assert.GreaterOrEqual(t, after.PrivateDirty-before.PrivateDirty, length)
}

func fill(b []byte, value byte) {
	for i := range b {
		b[i] = value
	}
}

func TestCountersAreForExpvar(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, int(unix.SIGTERM), nil)
	before := shm.ReadCounters()
	_ = wait(t, forked(t, m, ctest.Raise))
	_, err := m.Fork(ctest.Exit, &shm.ForkConfig{Limits: []shm.Limit{{Resource: 99}}})
	assert.Error(t, err)
	p := forked(t, m, ctest.Pause)
	after := shm.ReadCounters()
	assert.Equal(t, before.Forks+2, after.Forks)
	assert.Equal(t, before.Failed+1, after.Failed)
	assert.Equal(t, before.Live+1, after.Live)
	assert.Equal(t, before.Signals["SIGTERM"]+1, after.Signals["SIGTERM"])
	assert.Equal(t, p.ForkTime(), after.LastForkTime)
	assert.GreaterOrEqual(t, after.WorstForkTime, after.LastForkTime)
	text := string(must(json.Marshal(after)))
	for _, name := range []string{"Forks", "Live", "SIGTERM", "WorstForkTime"} {
		assert.True(t, strings.Contains(text, name), text)
	}
}
