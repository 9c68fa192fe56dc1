//go:build linux && cgo && livego

package live_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dumped runs fn in a child, and returns what it printed to standard error.
func dumped(t *testing.T, fn func()) (status int, text string) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p, err := live.Go(func() int {
		_ = syscall.Dup3(int(w.Fd()), 2, 0)
		fn()
		return good
	})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return wait(t, p), string(out)
}

type account struct {
	mu      sync.Mutex
	balance int
}

func holdsTheLock(a *account, held chan<- bool, end <-chan bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	held <- true
	<-end
}

func TestAChildThatWaitsForAFrozenLockIsTold(t *testing.T) {
	a, held, end := new(account), make(chan bool), make(chan bool)
	go holdsTheLock(a, held, end)
	<-held
	defer close(end)
	status, text := dumped(t, func() { a.mu.Lock(); a.balance++ })
	assert.Equal(t, 2, status)
	assert.Regexp(t, `^fatal error: all goroutines of this child wait for what the fork froze - deadlock!
goroutine \d+ \[sync.Mutex.Lock\] at \S+\.TestAChildThatWaitsForAFrozenLockIsTold\.func\d+ \S*watch_test.go:\d+
	waits for the lock at 0x[0-9a-f]+
`, text)
	assert.Regexp(t, `(?m)^	goroutine \d+ \[chan receive, inherited\] has a pointer to it, `+
		`and is frozen at \S+\.holdsTheLock \S*watch_test.go:\d+$`, text)
	assert.Regexp(t, `(?m)^goroutine \d+ \[chan receive, inherited\]:\n(.*\n)*forkshm.example/shm/live_test.holdsTheLock\(`, text)
}

func TestAChildThatReceivesFromAFrozenGoroutineIsTold(t *testing.T) {
	answers, end := make(chan int), make(chan bool)
	begun := make(chan bool)
	go func() {
		close(begun)
		<-end
		answers <- 1
	}()
	<-begun
	status, text := dumped(t, func() { <-answers })
	assert.Equal(t, 2, status)
	assert.Contains(t, text, "waits for the channel at 0x")
	assert.Contains(t, text, "TestAChildThatReceivesFromAFrozenGoroutineIsTold.func1")
	close(end)
	assert.Equal(t, 1, <-answers)
}

func TestAChildThatReadsFromAnInheritedConnectionIsTold(t *testing.T) {
	here, _ := connection(t)
	status, text := dumped(t, func() { _, _ = here.Read(make([]byte, 1)) })
	assert.Equal(t, 2, status)
	assert.Regexp(t, `\[IO wait\] at .*TestAChildThatReads.*\n\twaits for descriptor \d+, which was open at the fork`, text)
}

func TestACallsChildThatWaitsForAFrozenLockIsTold(t *testing.T) {
	a, held, end := new(account), make(chan bool), make(chan bool)
	go holdsTheLock(a, held, end)
	<-held
	defer close(end)
	_, err := live.Call(context.Background(), func() (int, error) {
		_ = syscall.Dup3(openNull(), 2, 0)
		a.mu.Lock()
		return 0, nil
	})
	var exit *shm.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 2, exit.Status.ExitStatus(), "%v", err)
}

// What may yet wake a child keeps the watch quiet: each child waits for a time
// in which it is looked at several times.
func TestAChildThatMayYetGoOnIsLeftAlone(t *testing.T) {
	const looks = 700 * time.Millisecond // at 64, 192 and 448 ms
	here, there := connection(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	var children []*shm.Process
	for _, fn := range []func(){
		func() { time.Sleep(looks) },
		func() { done := make(chan bool); time.AfterFunc(looks, func() { close(done) }); <-done },
		func() { <-time.After(looks) },
		func() { _, _ = syscall.Read(int(r.Fd()), make([]byte, 1)) },
		func() { // a duplicate is in the child's poller
			file, err := here.(*net.TCPConn).File()
			must(err)
			own, err := net.FileConn(file)
			must(err)
			done := make(chan bool)
			go func() { _, _ = own.Read(make([]byte, 1)); close(done) }()
			<-done
		},
		func() {
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGUSR2)
			<-c
		},
	} {
		p, err := live.Go(func() int { fn(); return good })
		require.NoError(t, err)
		children = append(children, p)
	}
	untouched, err := live.Go(untilKilled)
	require.NoError(t, err)
	time.Sleep(looks)
	_, err = w.Write([]byte{1})
	require.NoError(t, err)
	_, err = there.Write([]byte{1})
	require.NoError(t, err)
	require.NoError(t, children[len(children)-1].Signal(syscall.SIGUSR2))
	for i, p := range children {
		assert.Equal(t, good, wait(t, p), "child %d", i)
	}
	require.NoError(t, untouched.Kill())
	var exit *shm.ExitError
	require.ErrorAs(t, untouched.Wait(context.Background()), &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Status.Signal())
}

var stuckAtFork atomic.Bool

func init() {
	live.AtFork(nil, nil, func() {
		for stuckAtFork.Load() {
		}
	})
}

func TestAChildThatDoesNotBeginIsEnded(t *testing.T) {
	defer live.SetWatchdog(live.SetWatchdog(50 * time.Millisecond))
	r, w, err := os.Pipe()
	require.NoError(t, err)
	saved, err := syscall.Dup(2)
	require.NoError(t, err)
	stuckAtFork.Store(true)
	require.NoError(t, syscall.Dup3(int(w.Fd()), 2, 0))
	p, err := live.Go(func() int { return good })
	require.NoError(t, syscall.Dup3(saved, 2, 0))
	stuckAtFork.Store(false)
	require.NoError(t, syscall.Close(saved))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	assert.Equal(t, 2, wait(t, p))
	assert.Contains(t, string(out), "SIGQUIT")
}

func TestTheWatchdogCanBeSwitchedOff(t *testing.T) {
	defer live.SetWatchdog(live.SetWatchdog(0))
	begun, end := make(chan int), make(chan bool)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p, err := live.Go(func() int {
		go func() { // tells after the time in which the watch would look
			time.Sleep(300 * time.Millisecond)
			_, _ = syscall.Write(int(w.Fd()), []byte{1})
		}()
		<-begun
		return good
	})
	require.NoError(t, err)
	_, err = r.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	close(end)
	time.Sleep(300 * time.Millisecond)
	require.NoError(t, p.Kill())
	var exit *shm.ExitError
	require.ErrorAs(t, p.Wait(context.Background()), &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Status.Signal(), "%v", exit)
}
