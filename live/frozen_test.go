//go:build linux && cgo && livego

package live_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/callback"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	forks  = flag.Int("forks", 50, "how many times the busy program forks")
	atOnce = flag.Int("at-once", 4, "how many of its children there are at a time")
)

// childLimit is how long a child may take before the test ends it.
const childLimit = 3 * time.Minute

// busy is a program with goroutines of every kind. Each has a counter of its
// steps.
type busy struct {
	names    []string
	counters []*atomic.Int64
	server   string // of HTTP, which answers others at /other
	stop     chan struct{}
	end      func() // closes it
	steps    sync.WaitGroup
}

// does starts a goroutine that calls step until the program stops.
func (b *busy) does(name string, step func()) {
	n := new(atomic.Int64)
	b.names, b.counters = append(b.names, name), append(b.counters, n)
	b.steps.Add(1)
	go func() {
		defer b.steps.Done()
		for {
			select {
			case <-b.stop:
				return
			default:
				n.Add(1)
				step()
			}
		}
	}()
}

func (b *busy) read() []int64 {
	values := make([]int64, len(b.counters))
	for i, n := range b.counters {
		values[i] = n.Load()
	}
	return values
}

var sink []byte

func startBusy(t *testing.T) *busy {
	b := &busy{stop: make(chan struct{})}
	b.end = sync.OnceFunc(func() { close(b.stop) })
	var mu sync.Mutex
	var rw sync.RWMutex
	pause := func() { time.Sleep(time.Duration(rand.IntN(int(200 * time.Microsecond)))) }

	b.does("spin", func() {
		for i := 0; i < 1e6; i++ { // no call: only a signal preempts it
		}
	})
	b.does("allocate", func() { sink = make([]byte, 64<<10) })
	b.does("sleep", pause)
	b.does("gosched", runtime.Gosched)
	b.does("collect", func() { runtime.GC(); time.Sleep(5 * time.Millisecond) })
	b.does("lock", func() { mu.Lock(); pause(); mu.Unlock() })
	b.does("lock too", func() { mu.Lock(); pause(); mu.Unlock() })
	b.does("rwlock", func() { rw.RLock(); pause(); rw.RUnlock() })
	//lint:ignore SA2001 the lock is what is tested
	b.does("rwlock writing", func() { rw.Lock(); rw.Unlock() })
	b.does("system call", func() {
		ts := syscall.Timespec{Nsec: 100_000}
		_, _, _ = syscall.Syscall(syscall.SYS_NANOSLEEP, uintptr(ptr(&ts)), 0, 0)
	})
	b.does("C", func() { callback.Sleep(100 * time.Microsecond) })
	b.does("called from C", func() { callback.Call(pause) })
	b.does("called on a thread of C's",
		func() { must(callback.CallOnThread(pause)); time.Sleep(time.Millisecond) })
	b.does("locked to its thread", func() {
		runtime.LockOSThread()
		pause()
		runtime.UnlockOSThread()
	})

	ticker := time.NewTicker(time.Millisecond)
	t.Cleanup(ticker.Stop)
	b.does("tick", func() { <-ticker.C })
	b.does("select with a timeout", func() {
		select {
		case <-time.After(time.Millisecond):
		case <-make(chan int):
		}
	})
	fired := make(chan struct{}, 1)
	b.does("AfterFunc", func() {
		time.AfterFunc(100*time.Microsecond, func() { fired <- struct{}{} })
		<-fired
	})

	ping, pong := make(chan int), make(chan int)
	b.does("ping", func() {
		select {
		case ping <- 1:
			<-pong
		case <-b.stop:
		}
	})
	b.does("pong", func() {
		select {
		case <-ping:
			pong <- 1
		case <-time.After(10 * time.Millisecond):
		}
	})

	cond := sync.NewCond(new(sync.Mutex))
	var waiting, woken int
	wake := func() {
		cond.L.Lock()
		woken = 1
		cond.L.Unlock()
		cond.Broadcast()
	}
	b.does("wait on a cond", func() {
		cond.L.Lock()
		for waiting++; woken == 0; {
			cond.Wait()
		}
		waiting, woken = 0, 0
		cond.L.Unlock()
	})
	b.does("signal a cond", func() { wake(); pause() })

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGCHLD)
	t.Cleanup(func() { signal.Stop(signals) })
	b.does("get signals", func() {
		select {
		case <-signals:
		case <-time.After(5 * time.Millisecond):
		}
	})
	b.does("send signals",
		func() { _ = syscall.Kill(os.Getpid(), syscall.SIGUSR1); time.Sleep(time.Millisecond) })

	for name, client := range map[string]*http.Client{
		"":                          {Transport: new(http.Transport), Timeout: childLimit},
		" by the default transport": {Timeout: childLimit},
	} {
		var served, got atomic.Int64
		b.server = newServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				fmt.Fprint(w, served.Add(1))
			}
		})
		server := b.server
		b.names, b.counters = append(b.names, "serve"+name), append(b.counters, &served)
		b.does("call"+name, func() { // each request has its own answer, once
			answer, err := get(client, server+"/")
			must(err)
			if want := fmt.Sprint(got.Add(1)); answer != want {
				panic("answered " + answer + " in place of " + want)
			}
		})
	}
	here, there := connection(t)
	b.does("serve TCP", func() { // until the program stops
		var n [1]byte
		if _, err := io.ReadFull(there, n[:]); err == nil {
			n[0]++
			_, _ = there.Write(n[:])
		}
	})
	n := byte(0)
	b.does("call TCP", func() {
		answer := [1]byte{n}
		if _, err := here.Write(answer[:]); err != nil {
			return
		}
		if _, err := io.ReadFull(here, answer[:]); err == nil {
			if n++; answer[0] != n {
				panic(fmt.Sprintf("TCP: answered %d in place of %d", answer[0], n))
			}
		}
	})
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	log.SetOutput(null)
	b.does("log", func() { log.Print("parent") })
	t.Cleanup(func() { log.SetOutput(os.Stderr); null.Close() })
	for _, wait := range []func(){
		func() { // in a system call
			var fds [2]int
			must(syscall.Pipe2(fds[:], syscall.O_CLOEXEC))
			_, _ = syscall.Read(fds[0], make([]byte, 1))
		},
		func() { // in the poller
			r, w, err := os.Pipe()
			must(err)
			_, _ = r.Read(make([]byte, 1))
			runtime.KeepAlive(w)
		},
		func() { callback.Sleep(24 * time.Hour) },
		func() { callback.Call(func() { select {} }) },
		func() { runtime.LockOSThread(); select {} },
		func() { mu := new(sync.Mutex); mu.Lock(); mu.Lock() },
	} {
		go wait()
	}
	b.does("os/exec", func() {
		must(exec.Command("/bin/true").Run())
		time.Sleep(5 * time.Millisecond)
	})
	t.Cleanup(func() { // before the others, which take away what the steps use
		b.end()
		here.Close()
		there.Close()
		stopped := make(chan struct{})
		go func() { b.steps.Wait(); close(stopped) }()
		for {
			select {
			case <-stopped:
				return
			case <-time.After(time.Millisecond):
				wake()
			}
		}
	})
	return b
}

func get(client *http.Client, url string) (string, error) {
	answer, _, err := getBy(client, url)
	return answer, err
}

// getBy returns also whether the request used a connection that there was
// already. On a busy machine package net/http may let one go that is good.
func getBy(client *http.Client, url string) (answer string, reused bool, err error) {
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }}
	ctx := httptrace.WithClientTrace(context.Background(), trace)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", false, err
	}
	resp, err := client.Do(request)
	if err != nil {
		return "", false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), reused, err
}

// connection returns the two ends of one by TCP.
func connection(t *testing.T) (here, there net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	here, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	there, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

func newServer(t require.TestingT, handler http.HandlerFunc) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(l) }()
	if t, ok := t.(*testing.T); ok {
		t.Cleanup(func() { server.Close() })
	}
	return "http://" + l.Addr().String()
}

// must ends the program if one of its goroutines fails.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// In a child of a busy program all other goroutines are frozen, and the child
// can do everything that Go programs do.
func TestFrozenMeansFrozen(t *testing.T) {
	b := startBusy(t)
	defer b.end()
	require.Eventually(t, func() bool { // what packages do once, on first use, is done
		for _, n := range b.read() {
			if n < 2 {
				return false
			}
		}
		return true
	}, childLimit, time.Millisecond)
	var total, longest, forked atomic.Int64
	var all sync.WaitGroup
	for range *atOnce {
		all.Add(1)
		go func() {
			defer all.Done()
			for n := forked.Add(1); n <= int64(*forks); n = forked.Add(1) {
				p, err := live.Go(func() int { return insideChild(b, int(n)) })
				if !assert.NoError(t, err) {
					return
				}
				total.Add(int64(p.ForkTime()))
				if held := int64(p.ForkTime()); held > longest.Load() {
					longest.Store(held)
				}
				if !assert.Equal(t, good, wait(t, p), "fork %d", n) {
					forked.Store(int64(*forks))
				}
			}
		}()
	}
	all.Wait()
	before := b.read()
	require.Eventually(t, func() bool {
		after := b.read()
		for i := range after {
			if after[i] <= before[i] {
				return false
			}
		}
		return true
	}, childLimit, time.Millisecond, "the parent goes on")
	t.Logf("%d forks, fork(2) took %v on average, %v at most", *forks,
		time.Duration(total.Load()/int64(*forks)), time.Duration(longest.Load()))
}

// waitOrDump waits for a child, and makes a child that hangs print its
// goroutines.
func waitOrDump(p *shm.Process) error {
	ctx, cancel := context.WithTimeout(context.Background(), childLimit)
	defer cancel()
	err := p.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		fmt.Fprintf(os.Stderr, "child %d hangs\n", p.Pid())
		if os.Getenv("LIVE_KEEP") != "" {
			select {}
		}
		_ = p.Signal(syscall.SIGQUIT)
		time.Sleep(2 * time.Second)
		_ = p.Kill()
	}
	return err
}

// insideChild checks what a child finds, and returns the child's exit status.
func insideChild(b *busy, n int) int {
	fail := func(status int, format string, args ...any) int {
		fmt.Fprintf(os.Stderr, "child of fork %d: %s\n", n, fmt.Sprintf(format, args...))
		return status
	}
	if !live.Child() {
		return fail(10, "Child is false")
	}
	before := b.read()

	runtime.GC()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			time.Sleep(time.Duration(i) * 100 * time.Microsecond)
			_ = make([]byte, 1<<20)
		}()
	}
	wg.Wait()

	if n%2 == 0 {
		url := newServer(panics{},
			func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
		if _, err := get(http.DefaultClient, url); err != nil {
			return fail(11, "HTTP: %v", err)
		}
		// The parent answers too, on a connection of the child's.
		if _, err := get(http.DefaultClient, b.server+"/other"); err != nil {
			return fail(11, "the parent's HTTP: %v", err)
		}
		log.Print("child")
	}
	if n%3 == 0 {
		if out, err := exec.Command("/bin/echo", "hello").Output(); err != nil ||
			string(out) != "hello\n" {
			return fail(12, "os/exec: %q, %v", out, err)
		}
	}
	if n%7 == 0 {
		ran := false
		if err := callback.CallOnThread(func() { ran = true }); err != nil || !ran {
			return fail(17, "C calls Go: %v", err)
		}
	}
	if n%4 == 0 {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGUSR2)
		_ = syscall.Kill(os.Getpid(), syscall.SIGUSR2)
		select {
		case <-c:
		case <-time.After(childLimit / 2):
			return fail(13, "no signal")
		}
	}
	if n%5 == 0 {
		p, err := live.Go(func() int { runtime.GC(); return 7 })
		if err != nil {
			return fail(14, "fork: %v", err)
		}
		var exit *shm.ExitError
		if err := p.Wait(context.Background()); !errors.As(err, &exit) ||
			exit.Status.ExitStatus() != 7 {
			return fail(15, "a fork's fork: %v", err)
		}
	}
	runtime.GC()

	for i, after := range b.read() {
		if after != before[i] {
			return fail(16, "%q moved from %d to %d, beside\n%s", b.names[i], before[i], after,
				stacks())
		}
	}
	return good
}

// stacks returns the traces of all goroutines. Those of frozen goroutines say
// so.
func stacks() []byte {
	traces := make([]byte, 1<<20)
	return traces[:runtime.Stack(traces, true)]
}

// panics is a require.TestingT for children.
type panics struct{}

func (panics) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format, args...) }
func (panics) FailNow()                          { panic("failed") }
