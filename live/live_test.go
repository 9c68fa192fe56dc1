//go:build linux && cgo && livego

package live_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/callback"
	"forkshm.example/shm/internal/testenv"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func ptr[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }

// good is the exit status of a child that found no fault. Package testing lets
// no test exit with 0.
const good = 42

// wait returns the child's exit status, or -1 if the child did not exit.
func wait(t *testing.T, p *shm.Process) int {
	err := waitOrDump(p)
	if err == nil {
		return 0
	}
	var exit *shm.ExitError
	if !assert.ErrorAs(t, err, &exit) || !assert.True(t, exit.Status.Exited(), "%v", exit) {
		return -1
	}
	return exit.Status.ExitStatus()
}

func TestForkReturnsTwice(t *testing.T) {
	pid, err := live.Fork()
	require.NoError(t, err)
	if pid == 0 {
		runtime.GC()
		os.Exit(5)
	}
	wpid, status, err := shm.Waitpid(pid, 0)
	require.NoError(t, err)
	assert.Equal(t, pid, wpid)
	assert.Equal(t, 5, status.ExitStatus())
}

func TestGoExitsWithTheFunctionsResult(t *testing.T) {
	p, err := live.Go(func() int { return 3 })
	require.NoError(t, err)
	assert.Equal(t, 3, wait(t, p))
	assert.Positive(t, p.ForkTime())
	assert.False(t, live.Child())
}

func TestAPanicIsExitStatus2(t *testing.T) {
	p, err := live.Go(func() int {
		_ = syscall.Dup3(openNull(), 2, 0) // its trace is not this test's output
		panic("on purpose")
	})
	require.NoError(t, err)
	assert.Equal(t, 2, wait(t, p))
}

func TestGoexitIsExitStatus2(t *testing.T) {
	p, err := live.Go(func() int {
		_ = syscall.Dup3(openNull(), 2, 0)
		runtime.Goexit()
		return 0
	})
	require.NoError(t, err)
	assert.Equal(t, 2, wait(t, p))
}

// Another goroutine is writing to the standard logger's file, and has that
// locked.
func TestTheChildLogsWhereOthersDid(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	stderr, err := syscall.Dup(2)
	require.NoError(t, err)
	syscall.CloseOnExec(stderr)
	require.NoError(t, syscall.Dup3(int(null.Fd()), 2, 0))
	defer func() { _ = syscall.Dup3(stderr, 2, 0); _ = syscall.Close(stderr) }()
	end := repeatedly(func() { log.Print("parent") })
	for range 20 {
		p, err := live.Go(func() int { log.Print("child"); return good })
		require.NoError(t, err)
		assert.Equal(t, good, wait(t, p))
	}
	end()
}

// repeatedly calls step in another goroutine until end, which waits for the
// last call.
func repeatedly(step func()) (end func()) {
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				step()
			}
		}
	}()
	return func() { close(stop); <-done }
}

func openNull() int {
	fd, err := syscall.Open(os.DevNull, syscall.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	return fd
}

// If a goroutine ends that is locked to its thread, the thread exits. The first
// thread of a process does not exit, because /proc/self would be that of a
// zombie.
func TestTheChildsFirstThreadStays(t *testing.T) {
	check := func() int {
		time.Sleep(50 * time.Millisecond) // as it exits
		status, err := os.ReadFile("/proc/self/status")
		if err != nil || strings.Contains(string(status), "zombie") {
			fmt.Fprintf(os.Stderr, "%v %s", err, status)
			return 1
		}
		if _, err := os.ReadDir("/proc/self/fd"); err != nil {
			return 2
		}
		runtime.GC()
		return good
	}
	pids := make(chan int)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		pid, err := live.Fork()
		if pid == 0 && err == nil {
			go func() { os.Exit(check()) }()
			runtime.LockOSThread() // what is deferred unlocks once
			runtime.Goexit()
		}
		assert.NoError(t, err)
		pids <- pid
	}()
	_, status, err := shm.Waitpid(<-pids, 0)
	require.NoError(t, err)
	assert.Equal(t, good, status.ExitStatus())
}

func TestNilIsRefused(t *testing.T) {
	_, err := live.Go(nil)
	assert.ErrorContains(t, err, "nil")
	_, err = live.GoWithin(time.Second, nil)
	assert.ErrorContains(t, err, "nil")
	_, err = live.Snapshot(t.TempDir()+"/file", nil)
	assert.ErrorContains(t, err, "nil")
	_, err = live.SnapshotTo(nil, func(io.Writer) error { return nil })
	assert.ErrorContains(t, err, "nil")
	_, err = live.SnapshotTo(io.Discard, nil)
	assert.ErrorContains(t, err, "nil")
}

// The child does not wait for a name that the parent is looking up.
func TestTheChildLooksNamesUp(t *testing.T) {
	asking, goOn, done := make(chan bool), make(chan bool), make(chan bool)
	former := net.DefaultResolver
	defer func() { net.DefaultResolver = former }()
	var once sync.Once
	net.DefaultResolver = &net.Resolver{PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			if !live.Child() {
				once.Do(func() { close(asking) })
				<-goOn
			}
			return nil, errors.New("there is no server")
		}}
	go func() { _, _ = net.LookupIP("name.example"); close(done) }()
	<-asking
	p, err := live.Go(func() int {
		if _, err := net.LookupIP("name.example"); err == nil ||
			!strings.Contains(err.Error(), "there is no server") {
			return 1
		}
		return good
	})
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
	close(goOn)
	<-done
}

// The child's requests by the default transport use no connection of the
// parent.
func TestTheChildMakesConnectionsOfItsOwn(t *testing.T) {
	former := http.DefaultTransport
	defer func() { http.DefaultTransport = former }()
	for _, c := range []struct{ name, proto string }{{"HTTP 1", "HTTP/1.1"}, {"HTTP 2", "HTTP/2.0"},
		{"a transport without more", "HTTP/2.0"}} {
		proto := c.proto
		t.Run(c.name, func(t *testing.T) {
			handler := func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.Proto, " ", r.RemoteAddr)
			}
			server := httptest.NewUnstartedServer(http.HandlerFunc(handler))
			server.EnableHTTP2 = proto == "HTTP/2.0"
			server.StartTLS()
			defer server.Close()
			transport := former.(*http.Transport).Clone()
			config := server.Client().Transport.(*http.Transport).TLSClientConfig
			transport.TLSClientConfig = config
			if c.name == "a transport without more" {
				// Such a transport sets up HTTP/2 late.
				transport = &http.Transport{DialTLSContext: nil}
				require.NotNil(t, transport.Clone()) // makes up its mind that it speaks HTTP/2
				transport.TLSClientConfig.RootCAs = config.RootCAs
			}
			http.DefaultTransport = transport
			defer transport.CloseIdleConnections()

			first, err := get(http.DefaultClient, server.URL)
			require.NoError(t, err)
			require.Contains(t, first, proto)
			for range 2 { // idle, and in use
				p, err := live.Go(func() int {
					mine, _, err := getBy(http.DefaultClient, server.URL)
					again, reused, err2 := getBy(http.DefaultClient, server.URL)
					if err != nil || err2 != nil || !strings.Contains(mine, proto) ||
						mine == first || reused && again != mine {
						fmt.Fprintln(os.Stderr, first, mine, again, err, err2)
						return 1
					}
					return good
				})
				require.NoError(t, err)
				for range 100 {
					again, reused, err := getBy(http.DefaultClient, server.URL)
					require.NoError(t, err)
					if reused {
						require.Equal(t, first, again, "the parent's connection goes on")
					}
					first = again
				}
				assert.Equal(t, good, wait(t, p))
			}
		})
	}
}

func TestForksNestTenDeep(t *testing.T) {
	var generation func(n int) int
	generation = func(n int) int {
		runtime.GC()
		if n == 10 {
			return n
		}
		p, err := live.Go(func() int { return generation(n + 1) })
		if err != nil {
			panic(err)
		}
		return p.Wait(context.Background()).(*shm.ExitError).Status.ExitStatus()
	}
	assert.Equal(t, 10, generation(0))
}

// memoryInUse returns what the Go heap and the stacks of goroutines and signal
// handlers hold, in bytes.
func memoryInUse() int64 {
	runtime.GC()
	runtime.GC() // what the first one made free is swept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// A child has no thread of its parent. It frees the memory that the runtime had
// for each, and so do its children.
func TestThreadsOfAncestorsCostNoMemory(t *testing.T) {
	const threads, first, last = 16, 4, 24
	var then int64
	var generation func(n int) int
	generation = func(n int) int {
		var begun, ended sync.WaitGroup
		begun.Add(threads)
		for range threads {
			// All goroutines are in C at once, so that each has a thread. Such a thread stays.
			ended.Add(1)
			go func() {
				defer ended.Done()
				callback.Call(func() { begun.Done(); begun.Wait(); callback.Sleep(time.Millisecond) })
			}()
		}
		ended.Wait()
		switch n {
		case first:
			then = memoryInUse()
		case last:
			grown := memoryInUse() - then
			fmt.Fprintf(os.Stderr, "%d generations with %d threads each took %d KiB\n", last-first,
				threads, grown>>10)
			if grown > 2<<20 {
				return 1
			}
			return good
		}
		p, err := live.Go(func() int { return generation(n + 1) })
		if err != nil {
			panic(err)
		}
		var exit *shm.ExitError
		if err := p.Wait(context.Background()); !errors.As(err, &exit) {
			return 2
		}
		return exit.Status.ExitStatus()
	}
	assert.Equal(t, good, generation(0))
}

func TestForkFromALockedGoroutine(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := live.Fork()
	require.NoError(t, err)
	if pid == 0 {
		done := make(chan bool)
		go func() { runtime.GC(); close(done) }()
		<-done
		if syscall.Gettid() != os.Getpid() {
			os.Exit(1)
		}
		os.Exit(good)
	}
	_, status, err := shm.Waitpid(pid, 0)
	require.NoError(t, err)
	assert.Equal(t, good, status.ExitStatus())
}

// The child's own code can wake a frozen goroutine, even one that is locked to
// a thread.
func TestTheChildCanWakeAFrozenGoroutine(t *testing.T) {
	ask, answer := make(chan int), make(chan int)
	go func() {
		runtime.LockOSThread()
		for n := range ask {
			answer <- n + 1
		}
	}()
	ask <- 1
	require.Equal(t, 2, <-answer)
	// Frozen before it waits, it could not be woken.
	untilGoroutine(t, "[chan receive, locked to thread", "TestTheChildCanWakeAFrozenGoroutine.func")
	p, err := live.Go(func() int { ask <- 41; return <-answer })
	require.NoError(t, err)
	assert.Equal(t, 42, wait(t, p))
	ask <- 2
	assert.Equal(t, 3, <-answer)
	close(ask)
}

func TestTheChildDrawsItsOwnRandomNumbers(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	runtime.LockOSThread() // a generator belongs to a thread
	defer runtime.UnlockOSThread()
	pid, err := live.Fork()
	require.NoError(t, err)
	drawn := strconv.FormatUint(rand.Uint64(), 10)
	if pid == 0 {
		_, _ = w.WriteString(drawn)
		os.Exit(good)
	}
	w.Close()
	_, status, err := shm.Waitpid(pid, 0)
	require.NoError(t, err)
	require.Equal(t, good, status.ExitStatus())
	buf := make([]byte, 32)
	n, err := r.Read(buf)
	require.NoError(t, err)
	assert.NotEqual(t, drawn, string(buf[:n]))
}

func TestAtForkLetsTheChildHaveALock(t *testing.T) {
	var mu sync.Mutex
	live.AtFork(mu.Lock, mu.Unlock, mu.Unlock)
	p, err := live.Go(func() int {
		if !mu.TryLock() {
			return 1
		}
		return good
	})
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
	assert.True(t, mu.TryLock())
	mu.Unlock()
}

// A goroutine that waits for a lock stays frozen when the child resets the
// lock.
func TestResetLockWakesNobody(t *testing.T) {
	type resettable struct {
		sync.Locker
		reset func()
	}
	mu, rw := new(sync.Mutex), new(sync.RWMutex)
	for name, lock := range map[string]resettable{
		"Mutex":   {mu, func() { live.ResetLock(mu) }},
		"RWMutex": {rw, func() { live.ResetLock(rw) }},
	} {
		t.Run(name, func(t *testing.T) {
			var got atomic.Bool
			done := make(chan bool)
			lock.Lock()
			go func() {
				lock.Lock()
				got.Store(true)
				lock.Unlock()
				close(done)
			}()
			untilGoroutine(t, "[sync.Mutex.Lock", "TestResetLockWakesNobody") // an RWMutex has one
			p, err := live.Go(func() int {
				lock.reset()
				for range 100 { // goroutines of the child's own have it in turn
					var all sync.WaitGroup
					for range 10 {
						all.Add(1)
						go func() {
							defer all.Done()
							lock.Lock()
							runtime.Gosched()
							lock.Unlock()
						}()
					}
					all.Wait()
				}
				if got.Load() {
					return 1
				}
				return good
			})
			require.NoError(t, err)
			assert.Equal(t, good, wait(t, p))
			lock.Unlock()
			<-done
		})
	}
	assert.Panics(t, func() { live.ResetLock(new(sync.Mutex)) }, "outside of a child")
}

// untilGoroutine waits until a goroutine in the given function is in the given
// state, as tracebacks name it. Other tests' goroutines may be in the same
// state.
func untilGoroutine(t *testing.T, state, function string) {
	stacks := make([]byte, 1<<20)
	require.Eventually(t, func() bool {
		for trace := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(trace, state) && strings.Contains(trace, "live_test."+function) {
				return true
			}
		}
		return false
	}, childLimit, time.Millisecond, state)
}

var stuck atomic.Bool // a handler of AtFork's stays for ever

func TestGoWithinKillsAChildThatIsStuck(t *testing.T) {
	live.AtFork(nil, nil, func() {
		if stuck.Load() {
			select {}
		}
	})
	p, err := live.GoWithin(childLimit,
		func() int { time.Sleep(10 * time.Millisecond); return good })
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))

	stuck.Store(true)
	defer stuck.Store(false)
	_, err = live.GoWithin(100*time.Millisecond, func() int { return 0 })
	require.ErrorIs(t, err, live.ErrStuck)
	assert.Regexp(t, `^live: child \d+ is killed: it did not begin its function within 100ms$`,
		err.Error())
	_, _, err = shm.Waitpid(-1, syscall.WNOHANG)
	assert.ErrorIs(t, err, syscall.ECHILD, "and is reaped")
}

// A goroutine that C called stays parked when the child wakes it, since the
// frames of C below it are gone.
func TestAGoroutineThatCCalledDoesNotReturnThere(t *testing.T) {
	for name, call := range map[string]func(fn func()){
		"from a goroutine":     callback.Call,
		"from a thread of C's": func(fn func()) { _ = callback.CallOnThread(fn) },
	} {
		t.Run(name, func(t *testing.T) {
			wake, woken, done := make(chan int), make(chan int, 1), make(chan bool)
			go func() {
				call(func() {
					<-wake
					woken <- 1
				})
				close(done)
			}()
			untilGoroutine(t, "chan receive, locked to thread",
				"TestAGoroutineThatCCalledDoesNotReturnThere")
			p, err := live.Go(func() int {
				wake <- 1
				for range 3 {
					runtime.GC() // which looks at its stack
				}
				runtime.Stack(make([]byte, 1<<20), true)
				select {
				case <-woken:
					return 1
				case <-time.After(10 * time.Millisecond):
					return good
				}
			})
			require.NoError(t, err)
			assert.Equal(t, good, wait(t, p))
			wake <- 1
			<-done
		})
	}
}

// The thread that forks goes on in the child, with the frames of C on its
// stack.
func TestForkWhileCalledFromC(t *testing.T) {
	inChild := func() {
		runtime.GC()
		callback.Call(func() {})
		if callback.CallOnThread(runtime.Gosched) != nil {
			os.Exit(1)
		}
		os.Exit(good)
	}
	fork := func(t *testing.T, call func(fn func())) {
		pid, err := -1, error(nil)
		done := make(chan bool)
		go func() {
			defer close(done)
			call(func() { pid, err = live.Fork() })
			if pid == 0 { // it came back through C
				inChild()
			}
		}()
		<-done
		require.NoError(t, err)
		_, status, err := shm.Waitpid(pid, 0)
		require.NoError(t, err)
		assert.Equal(t, good, status.ExitStatus())
	}
	t.Run("from a goroutine", func(t *testing.T) { fork(t, callback.Call) })
	t.Run("from a thread of C's", func(t *testing.T) {
		fork(t, func(fn func()) {
			assert.NoError(t, callback.CallOnThread(func() {
				if fn(); live.Child() { // who started the thread is not there
					inChild()
				}
			}))
		})
	})
}

// cpuTime returns the processor time that this process has used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestTheChildTakesACPUProfile(t *testing.T) {
	for _, parents := range []bool{false, true} {
		if parents {
			require.NoError(t, pprof.StartCPUProfile(io.Discard))
			defer pprof.StopCPUProfile()
			require.NoError(t, callback.CallOnThread(func() {
				for start := cpuTime(); cpuTime()-start < 20*time.Millisecond; {
					runtime.Gosched() // which starts the M's timer
				}
			}))
		}
		p, err := live.Go(func() int {
			var profile bytes.Buffer
			if callback.CallOnThread(func() {}) != nil {
				// The goroutine runs on a spare M, which the parent's profile may have had.
				return 4
			}
			if err := pprof.StartCPUProfile(&profile); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			n := 0
			for start := cpuTime(); cpuTime()-start < 300*time.Millisecond; {
				// A profile counts these.
				for range 100_000 {
					n++
				}
			}
			pprof.StopCPUProfile()
			r, err := gzip.NewReader(&profile)
			if err != nil {
				return 2
			}
			text, err := io.ReadAll(r)
			if err != nil || !bytes.Contains(text, []byte("TestTheChildTakesACPUProfile")) {
				return 3
			}
			return good
		})
		require.NoError(t, err)
		assert.Equal(t, good, wait(t, p), "a profile of the parent's: %v", parents)
	}
}

func TestTheChildTakesAnExecutionTrace(t *testing.T) {
	p, err := live.Go(func() int {
		var out bytes.Buffer
		if err := trace.Start(&out); err != nil {
			return 1
		}
		runtime.GC()
		trace.Stop()
		if out.Len() == 0 {
			return 2
		}
		return good
	})
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))

	require.NoError(t, trace.Start(io.Discard))
	defer trace.Stop()
	_, err = live.Fork()
	assert.ErrorIs(t, err, live.ErrTracing)
}

// A cleanup that is running in the parent does not keep cleanups from running
// in the child.
func TestCleanupsRunInTheChild(t *testing.T) {
	began, goOn, done := make(chan bool), make(chan bool), make(chan bool)
	func() {
		runtime.AddCleanup(new([16]byte), func(bool) { close(began); <-goOn; close(done) }, true)
	}()
	runtime.GC()
	<-began
	p, err := live.Go(func() int {
		ran := make(chan bool)
		runtime.AddCleanup(new([16]byte), func(bool) { close(ran) }, true)
		finalized := make(chan bool)
		runtime.SetFinalizer(new([16]byte), func(*[16]byte) { close(finalized) })
		runtime.GC()
		<-ran
		<-finalized
		return good
	})
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
	close(goOn)
	<-done
}

type slowWriter chan bool

func (w slowWriter) Write(p []byte) (int, error) {
	w <- true
	<-w
	return len(p), nil
}

// The child can log and change its environment, even if another goroutine was
// logging at the fork.
func TestTheChildLogs(t *testing.T) {
	w := make(slowWriter)
	log.SetOutput(w)
	defer log.SetOutput(os.Stderr)
	done := make(chan bool)
	go func() { log.Print("parent"); close(done) }()
	<-w // it has the lock
	p, err := live.Go(func() int {
		var out bytes.Buffer
		log.SetOutput(&out)
		log.Print("child")
		if !strings.Contains(out.String(), "child") {
			return 1
		}
		if err := os.Setenv("LIVE_TEST_CHILD", "yes"); err != nil ||
			os.Getenv("LIVE_TEST_CHILD") != "yes" {
			return 2
		}
		return good
	})
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
	w <- true
	<-done
	assert.Empty(t, os.Getenv("LIVE_TEST_CHILD"))
}

// The child can handle a signal that arrives when it begins.
func TestASignalToTheGroupReachesBoth(t *testing.T) {
	c := make(chan os.Signal, 1000)
	signal.Notify(c, syscall.SIGUSR1)
	defer signal.Stop(c)
	end := repeatedly(func() {
		for _, task := range children(t) {
			_ = syscall.Kill(task, syscall.SIGUSR1)
		}
	})
	killed := 0
	for range 20 {
		p, err := live.Go(func() int {
			mine := make(chan os.Signal, 1)
			signal.Notify(mine, syscall.SIGUSR1)
			<-mine
			return good
		})
		require.NoError(t, err)
		// Before its Notify the child has the signal's default, which is to end.
		err = waitOrDump(p)
		var exit *shm.ExitError
		require.ErrorAs(t, err, &exit)
		if exit.Status.Signaled() {
			require.Equal(t, syscall.SIGUSR1, exit.Status.Signal())
			killed++
			continue
		}
		require.Equal(t, good, exit.Status.ExitStatus())
	}
	end()
	t.Logf("%d of 20 had the signal before they asked for it", killed)
}

// children returns the process ids of this process's children.
func children(t *testing.T) (pids []int) {
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, task := range tasks {
		list, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for _, pid := range strings.Fields(string(list)) {
			n, err := strconv.Atoi(pid)
			require.NoError(t, err)
			pids = append(pids, n)
		}
	}
	return pids
}

// Goroutines that are in signal.Notify at the fork are frozen, and the child
// can call signal.Notify.
func TestForkWhileOthersNotify(t *testing.T) {
	var changes atomic.Int64
	for _, sig := range []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2} {
		c := make(chan os.Signal, 1)
		defer repeatedly(func() {
			signal.Notify(c, sig)
			signal.Stop(c)
			changes.Add(1)
		})()
	}
	for range 50 {
		p, err := live.GoWithin(childLimit, func() int {
			before := changes.Load()
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGUSR1)
			_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
			<-c
			signal.Stop(c)
			if changes.Load() != before {
				return 1
			}
			return good
		})
		require.NoError(t, err)
		assert.Equal(t, good, wait(t, p))
	}
}

// A signal for which the parent called Notify has its default action in the
// child.
func TestTheParentsSignalsEndTheChild(t *testing.T) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	defer signal.Stop(c)
	p, err := live.Go(func() int {
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		time.Sleep(childLimit)
		return good
	})
	require.NoError(t, err)
	var exit *shm.ExitError
	require.ErrorAs(t, waitOrDump(p), &exit)
	assert.Equal(t, syscall.SIGTERM, exit.Status.Signal())
}

// Signals are blocked during the fork. No thread of the child keeps them
// blocked, even if there are locked goroutines.
func TestTheChildsThreadsTakeSignals(t *testing.T) {
	stop := make(chan bool)
	defer close(stop)
	for range 3 {
		go func() { runtime.LockOSThread(); <-stop }()
	}
	untilGoroutine(t, "chan receive, locked to thread", "TestTheChildsThreadsTakeSignals.func")
	for range 20 {
		p, err := live.Go(func() int {
			var blocking []string
			if !testenv.Eventually(func() bool { // one that is starting has all blocked
				blocking = threadsThatBlock(syscall.SIGURG)
				return len(blocking) <= 1 // the one in C that forks for KillWithParent
			}) {
				fmt.Fprintf(os.Stderr, "of %d, these threads block signals: %q\n", os.Getpid(),
					blocking)
				return 2
			}
			return good
		})
		require.NoError(t, err)
		assert.Equal(t, good, wait(t, p))
	}
}

// threadsThatBlock returns the threads of this process that block a signal,
// with their masks.
func threadsThatBlock(sig syscall.Signal) (blocking []string) {
	tasks, err := os.ReadDir("/proc/self/task")
	must(err)
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			continue // it has ended
		}
		_, blocked, _ := strings.Cut(string(status), "SigBlk:\t")
		blocked, _, _ = strings.Cut(blocked, "\n")
		mask, err := strconv.ParseUint(blocked, 16, 64)
		must(err)
		if mask&(1<<(sig-1)) != 0 {
			blocking = append(blocking, task.Name()+" "+blocked)
		}
	}
	return blocking
}

// Timers are as the package's doc says. The fork must come before the timers
// fire, so the timers are longer on a slow machine.
func TestTimersInTheChild(t *testing.T) {
	for d := 100 * time.Millisecond; ; d *= 2 {
		status := timersInTheChild(t, d)
		if status == tooLate && d < time.Minute {
			t.Logf("the fork came more than %v late", d/2)
			continue
		}
		assert.Equal(t, good, status)
		return
	}
}

const tooLate = 3

// timersInTheChild forks before timers of d, and one of half of it, and returns
// the child's status.
func timersInTheChild(t *testing.T, d time.Duration) int {
	start := time.Now()
	never := make(chan int)
	selected, alone := time.NewTimer(d), time.NewTimer(d)
	awaited := time.NewTimer(d)
	done := make(chan bool)
	go func() { <-awaited.C; close(done) }()
	defer func() { <-done }()
	select { // it was waited for, and is no more
	case <-selected.C:
		return tooLate
	case <-never:
	case <-time.After(time.Millisecond):
	}
	untilGoroutine(t, "chan receive", "timersInTheChild.func")
	var fired atomic.Bool
	function := time.AfterFunc(d/2, func() { fired.Store(true) })
	p, err := live.Go(func() int {
		if time.Since(start) > d/2 {
			return tooLate
		}
		<-selected.C
		<-alone.C
		if fired.Load() {
			return 1
		}
		if function.Reset(time.Millisecond); !function.Stop() && !fired.Load() {
			return 2
		}
		again := make(chan bool)
		time.AfterFunc(time.Millisecond, func() { close(again) })
		<-again
		return good
	})
	require.NoError(t, err)
	return wait(t, p)
}

const fromInit = "LIVE_TEST_FORK_FROM_INIT"

func init() {
	if os.Getenv(fromInit) == "" {
		return
	}
	ready := make(chan bool)
	go func() { // others there may be already
		close(ready)
		for {
			runtime.Gosched()
		}
	}()
	<-ready
	p, err := live.Go(func() int {
		runtime.GC()
		out, err := exec.Command("/bin/echo", "hello").Output()
		if err != nil || string(out) != "hello\n" {
			return 1
		}
		if callback.CallOnThread(func() {}) != nil { // which waits until the program is initialized
			return 2
		}
		return good
	})
	if err != nil {
		panic(err)
	}
	pid, err := live.Fork()
	switch {
	case err != nil:
		panic(err)
	case pid == 0: // goes on to main
		return
	}
	_, status, err := shm.Waitpid(pid, 0)
	fmt.Println(p.Wait(context.Background()), status.ExitStatus(), err)
	os.Exit(0)
}

func TestForkFromInit(t *testing.T) {
	if os.Getenv(fromInit) != "" { // the child of a fork, here by way of main
		runtime.GC()
		os.Exit(7)
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^TestForkFromInit$")
	cmd.Env = append(os.Environ(), fromInit+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	assert.Regexp(t, `^child \d+: exit status 42 7 <nil>\n$`, string(out))
}

func TestCollapseHeap(t *testing.T) {
	heap := make([]byte, 64<<20)
	for i := range heap {
		heap[i] = byte(i)
	}
	require.Eventually(t, func() bool { // at another time the kernel may have none to give
		huge, err := live.CollapseHeap()
		t.Log(huge>>20, "MiB are huge", err)
		return err == nil && huge > 32<<20
	}, childLimit, time.Millisecond)
	for i := range heap {
		if heap[i] != byte(i) {
			t.Fatal("the heap has changed")
		}
	}
	p, err := live.Go(func() int { return int(heap[good]) })
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
}
