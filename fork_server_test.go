//go:build linux && cgo

package shm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/testenv"
)

func newForkServer(t testing.TB, m *shm.Mapping, cfg *shm.ForkServerConfig) *shm.ForkServer {
	t.Helper()
	s, err := m.ForkServer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			assert.ErrorIs(t, err, shm.ErrForkServerClosed)
		}
	})
	return s
}

// served forks by a server, and kills the child at the end of a test that
// failed to see it end.
func served(t testing.TB, s *shm.ForkServer, child shm.ChildFunc) *shm.Process {
	t.Helper()
	p, err := s.Fork(child)
	require.NoError(t, err)
	return endedByTest(t, p)
}

// needServer skips where children are forked without a server.
func needServer(t *testing.T, s *shm.ForkServer) {
	if s.IsPlain() {
		t.Skip("this kernel or C library can have no fork server")
	}
}

func TestForkServersChildrenAreOurs(t *testing.T) {
	leavesNothing(t)
	forEach(t, func(t *testing.T, sharing shm.Sharing, cfg *shm.Config) {
		if sharing != shm.Shared {
			return // which a server needs
		}
		m := newMapping(t, sharing, page, cfg)
		s := newForkServer(t, m, nil)
		for range 5 {
			assert.NoError(t, wait(t, served(t, s, ctest.Increment)))
		}
		assert.Equal(t, 5, getInt(m))
		assert.NoError(t, wait(t, served(t, s, ctest.Parent)))
		assert.Equal(t, os.Getpid(), getInt(m))
		p := served(t, s, ctest.Pid)
		assert.NoError(t, wait(t, p))
		assert.Equal(t, p.Pid(), getInt(m))
		assert.NotNil(t, p.Usage())
		setInt(m, 7)
		p = served(t, s, ctest.Status)
		assert.Equal(t, exited(p, 7), wait(t, p))
		p = served(t, s, ctest.Pause)
		require.NoError(t, p.Signal(unix.SIGTERM))
		assert.Equal(t, killed(p, unix.SIGTERM), wait(t, p))
	})
}

// libc's fork sets the thread id and the list of robust mutexes, and clone(2)
// does not.
func TestForkServersChildrenHaveTheirThreadID(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	for range 10 {
		assert.NoError(t, wait(t, served(t, s, ctest.Tid)))
		dead := served(t, s, ctest.OwnDead)
		assert.Equal(t, killed(dead, unix.SIGKILL), wait(t, dead))
		assert.NoError(t, wait(t, served(t, s, ctest.Heir)))
		assert.NoError(t, wait(t, served(t, s, ctest.Forks)))
	}
	assert.NoError(t, wait(t, served(t, s, ctest.Malloc)))
}

func TestForkServersChildrenAreFresh(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, &shm.ForkServerConfig{Fork: shm.ForkConfig{NoCrashReport: true}})
	assert.NoError(t, wait(t, served(t, s, ctest.Fresh)))
	assert.NoError(t, wait(t, served(t, s, ctest.Locked)))
	p := served(t, s, ctest.Threads)
	assert.Equal(t, exited(p, 1), wait(t, p))
}

func TestForkServersChildrenReportCrashes(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 3, nil) // the length is what Crash takes for how
	s := newForkServer(t, m, nil)
	for range 2 { // a record is its child's alone
		p := served(t, s, ctest.Crash)
		var exit *shm.ExitError
		require.ErrorAs(t, wait(t, p), &exit)
		assert.Equal(t, unix.SIGILL, exit.Status.Signal())
		require.NotNil(t, exit.Crash)
		assert.NotZero(t, exit.Crash.PC)
		if hasSymbols() {
			assert.Equal(t, "child_crash", strings.TrimSuffix(exit.Crash.Symbol, ".cold"))
		}
		assert.NoError(t, wait(t, served(t, s, ctest.Malloc)))
	}
}

func TestForkServersChildrenAreSetUp(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	file := must(os.Open("/dev/null"))
	defer file.Close()
	own := niceOf(t, nil)
	s := newForkServer(t, m, &shm.ForkServerConfig{Fork: shm.ForkConfig{
		KeepFDs: []int{int(file.Fd())}, Nice: 1, ProcessGroup: true,
		Limits: []shm.Limit{{Resource: unix.RLIMIT_CPU, Rlimit: unix.Rlimit{Cur: 77, Max: 88}}},
	}})
	for range 2 {
		assert.NoError(t, wait(t, served(t, s, ctest.Limits)))
		values := must(shm.Slice[int](m, 0, 3))
		assert.Equal(t, 77, values[1])
		assert.Equal(t, min(own+1, 19), values[2])
		p := served(t, s, ctest.Open)
		assert.Equal(t, exited(p, 4), wait(t, p), "0, 1, 2 and the one in KeepFDs")
		p = served(t, s, ctest.Sockets)
		var exit *shm.ExitError
		if err := wait(t, p); errors.As(err, &exit) {
			assert.LessOrEqual(t, exit.Status.ExitStatus(), 3, "standard descriptors may be sockets")
		}
	}
	p := served(t, s, ctest.Pause)
	group, err := unix.Getpgid(p.Pid())
	require.NoError(t, err)
	assert.Equal(t, p.Pid(), group)
	require.NoError(t, p.Kill())
	assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
}

func TestForkServersSetUpThatFails(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, &shm.ForkServerConfig{Fork: shm.ForkConfig{
		Limits: []shm.Limit{{Resource: unix.RLIMIT_CPU, Rlimit: unix.Rlimit{Cur: 2, Max: 1}}},
	}})
	for range 3 {
		_, err := s.Fork(ctest.Increment)
		assert.ErrorIs(t, err, unix.EINVAL)
		assert.ErrorContains(t, err, "RLIMIT_CPU")
	}
	assert.Zero(t, getInt(m))
}

func TestForkServerRunsInitOnce(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, &shm.ForkServerConfig{Init: ctest.InitWarm})
	needServer(t, s)
	for range 3 {
		p := served(t, s, ctest.Warm)
		assert.Equal(t, exited(p, 1), wait(t, p))
	}
}

func TestForkServerSaysWhatInitDid(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	plain := newForkServer(t, m, nil).IsPlain()
	for _, c := range []struct {
		init shm.ChildFunc
		want string
	}{
		{ctest.InitFail, "Init returned 3, must be 0"},
		{ctest.InitCrash, "signal: segmentation fault, address 0x10"},
		{ctest.InitExit, "exit status 0"},
		{ctest.InitThread, "Init left 2 threads running"},
		{ctest.InitLocked, "Init left a robust mutex locked"},
	} {
		if plain {
			break // each child runs Init
		}
		_, err := m.ForkServer(&shm.ForkServerConfig{Init: c.init})
		assert.ErrorContains(t, err, c.want)
	}
	testenv.SpareThreads() // the stacks of this process's threads are the server's to use and to unmap
	for range 5 {
		s := newForkServer(t, m, &shm.ForkServerConfig{Init: ctest.InitJoined})
		assert.NoError(t, wait(t, served(t, s, ctest.Increment)))
	}
}

func TestForkServerRefuses(t *testing.T) {
	leavesNothing(t)
	_, err := newMapping(t, shm.Private, page, nil).ForkServer(nil)
	assert.ErrorIs(t, err, unix.EINVAL)
	assert.EqualError(t, err, "shm: fork server 4096 bytes: MAP_PRIVATE, must be Shared: invalid argument")
	m, err := shm.Map(shm.Shared, page, nil)
	require.NoError(t, err)
	s := newForkServer(t, m, nil)
	_, err = s.Fork(nil)
	assert.ErrorIs(t, err, unix.EINVAL)
	assert.ErrorIs(t, s.Call(background, nil), unix.EINVAL)
	require.NoError(t, m.Close())
	_, err = s.Fork(ctest.Increment)
	assert.ErrorIs(t, err, shm.ErrClosed)
	_, err = m.ForkServer(nil)
	assert.ErrorIs(t, err, shm.ErrClosed)
	require.NoError(t, s.Close())
	_, err = s.Fork(ctest.Increment)
	assert.ErrorIs(t, err, shm.ErrForkServerClosed)
	assert.ErrorIs(t, s.Close(), shm.ErrForkServerClosed)
	assert.EqualError(t, s.Close(), "shm: close: fork server is closed")
}

func TestForkServerCallEndsWithItsContext(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	require.NoError(t, s.Call(background, ctest.Increment))
	ctx, cancel := context.WithCancel(background)
	called := make(chan error)
	go func() { called <- s.Call(ctx, ctest.Until) }()
	cancel()
	assert.ErrorIs(t, <-called, context.Canceled)
	assert.ErrorIs(t, s.Call(ctx, ctest.Increment), context.Canceled)
	assert.NoError(t, s.Call(background, ctest.Increment))
	assert.Equal(t, 2, getInt(m))
}

// The server has the mapping of its beginning.
func TestForkServerFollowsTheMapping(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Memfd, Reserve: 4 * page})
	s := newForkServer(t, m, nil)
	assert.NoError(t, s.Call(background, ctest.FirstLast))
	require.NoError(t, m.Resize(4*page, shm.InPlace))
	assert.NoError(t, s.Call(background, ctest.FirstLast))
	assert.Equal(t, byte(2), m.Bytes()[4*page-1])
	require.NoError(t, m.Resize(page, shm.InPlace), "the child that waits does not count as live")
	assert.NoError(t, s.Call(background, ctest.FirstLast))
	require.NoError(t, m.Resize(8*page, shm.MayMove))
	assert.NoError(t, s.Call(background, ctest.FirstLast))
	assert.Equal(t, byte(2), m.Bytes()[8*page-1])
	setInt(m, 0)
	p := served(t, s, ctest.Until)
	assert.ErrorIs(t, m.Resize(page, shm.InPlace), shm.ErrLive)
	setInt(m, 5)
	assert.Equal(t, exited(p, 5), wait(t, p))
}

func TestForkServerIsMadeAnew(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	needServer(t, s)
	for range 3 {
		stays := served(t, s, ctest.Until)
		require.NoError(t, unix.Kill(s.ServerPid(), unix.SIGKILL))
		for range 3 { // the first may be the child that was made in advance
			assert.NoError(t, wait(t, served(t, s, ctest.Malloc)))
		}
		setInt(m, 9)
		assert.Equal(t, exited(stays, 9), wait(t, stays), "living children stay")
		setInt(m, 0)
	}
}

func TestForkServerReplacesTheChildThatWaits(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	needServer(t, s)
	for n := range 5 {
		assert.NoError(t, wait(t, served(t, s, ctest.Increment)))
		pid, err := s.NextPid(time.Minute)
		require.NoError(t, err)
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		require.True(t, eventually(func() bool { return isZombie(pid) }))
		assert.Equal(t, n+1, getInt(m))
	}
}

func isZombie(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0
}

func TestForkServerWhoseInitFailsLater(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, &shm.ForkServerConfig{Init: ctest.InitOnce})
	needServer(t, s)
	require.NoError(t, unix.Kill(s.ServerPid(), unix.SIGKILL))
	var err error
	require.True(t, eventually(func() bool {
		_, err = s.Fork(ctest.Exit)
		return err != nil
	}))
	assert.ErrorContains(t, err, "Init returned 4, must be 0")
	*must(shm.At[int32](m, 128)) = 0
	p := served(t, s, ctest.Pause)
	require.NoError(t, p.Kill())
	assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
}

func TestForkServerThatHangs(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	needServer(t, s)
	setInt(m, s.ServerPid())
	require.NoError(t, s.Call(background, ctest.StopServer))
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	var exit *shm.ExitError
	err := s.Call(ctx, ctest.Exit)
	for err == nil || errors.As(err, &exit) { // the child that was made in advance may still serve
		err = s.Call(ctx, ctest.Exit)
	}
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	started := make(chan struct{})
	called := make(chan error)
	go func() {
		close(started)
		called <- s.Call(background, ctest.Exit)
	}()
	<-started
	assert.NoError(t, s.Close(), "Close does not wait for the server")
	if err := <-called; err != nil && !errors.As(err, &exit) {
		assert.ErrorIs(t, err, shm.ErrForkServerClosed)
	}
}

func TestUnreachableForkServerEnds(t *testing.T) {
	leavesNothing(t)
	pages := shm.ControlPages()
	m := newMapping(t, shm.Shared, page, nil)
	func() {
		s, err := m.ForkServer(nil)
		require.NoError(t, err)
		require.NoError(t, s.Call(background, ctest.Increment))
	}()
	assert.True(t, eventually(func() bool {
		runtime.GC()
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		return err == unix.ECHILD && shm.ReadCounters().Live == 0 && shm.ControlPages() == pages
	}))
}

func TestAThousandChildrenOfAForkServer(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	n := times(1000, 100)
	children := make([]*shm.Process, n)
	for i := range children {
		children[i] = served(t, s, ctest.Pause)
	}
	for _, p := range children {
		require.NoError(t, p.Kill())
		assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
	}
}

// Other forks go on beside a server's, and each parent reaps its own.
func TestForkServerBesideOtherForks(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	var all sync.WaitGroup
	for _, f := range []func() error{
		func() error { return s.Call(background, ctest.Exit) },
		func() error { return s.Call(background, ctest.Malloc) },
		func() error { return exec.Command("/bin/true").Run() },
		func() error { return shm.Call(background, ctest.Malloc, m, nil) },
		func() error {
			return shm.Call(background, ctest.Malloc, m, &shm.ForkConfig{KillWithParent: true, CloseFDs: true})
		},
	} {
		all.Add(1)
		go func() {
			defer all.Done()
			for range times(10, 3) {
				err := f()
				var exit *shm.ExitError
				if errors.As(err, &exit) && exit.Status.ExitStatus() == page&0xff|255 {
					continue // Exit's status is the mapping's length
				}
				assert.NoError(t, err)
			}
		}()
	}
	all.Wait()
}

// fakeServer returns a fork server's socket, and what reads from it.
func fakeServer(t *testing.T) (end int, f *shm.FakeServer, m *shm.Mapping) {
	t.Helper()
	m = newMapping(t, shm.Shared, page, nil)
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	p, err := m.Fork(ctest.Pause, &shm.ForkConfig{CloseFDs: true, KillWithParent: true})
	require.NoError(t, err)
	f, err = shm.NewFakeServer(p, ends[0])
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = unix.Close(ends[1])
		assert.NoError(t, f.Stop())
	})
	return ends[1], f, m
}

// take is Take of a server that is not waited for when it was killed: the test
// itself has its end of the socket.
func take(ctx context.Context, f *shm.FakeServer) (*shm.Process, error) {
	defer func(d time.Duration) { hook.KillTimeout = d }(hook.KillTimeout)
	hook.KillTimeout = 10 * time.Millisecond
	return f.Take(ctx)
}

// What a server that was taken over answers. It cannot name a child that is not
// its own, nor have this process wait, or keep what it sends.
func TestForkServersAnswersThatLie(t *testing.T) {
	leavesNothing(t)
	answer := func(words ...uint32) []byte {
		bytes := make([]byte, 0, 4*len(words))
		for _, w := range words {
			bytes = binary.NativeEndian.AppendUint32(bytes, w)
		}
		return bytes
	}
	rights := unix.UnixRights(0, 1, 2)
	for name, lie := range map[string]struct{ bytes, control []byte }{
		"another request":        {answer(2, 0), nil},
		"another sender":         {answer(1, 0), nil}, // which is this process
		"an error of no server":  {answer(1, uint32(unix.EAGAIN)), nil},
		"no errno value":         {answer(1, 1<<31), nil},
		"short":                  {answer(1), nil},
		"long":                   {answer(1, 0, 0), nil},
		"descriptors":            {answer(1, 0), rights},
		"descriptors and errors": {answer(1, 11), rights},
	} {
		t.Run(name, func(t *testing.T) {
			end, f, _ := fakeServer(t)
			descriptors := openDescriptors()
			require.NoError(t, unix.Sendmsg(end, lie.bytes, lie.control, nil, 0))
			_, err := take(background, f)
			assert.ErrorContains(t, err, "did not answer the question")
			assert.True(t, f.IsBroken())
			assert.LessOrEqual(t, openDescriptors(), descriptors)
		})
	}
}

func TestForkServerThatEndsWithoutAnAnswer(t *testing.T) {
	leavesNothing(t)
	end, f, _ := fakeServer(t)
	require.NoError(t, unix.Shutdown(end, unix.SHUT_RDWR))
	_, err := f.Take(background)
	assert.ErrorContains(t, err, "the fork server ended")
	assert.True(t, f.IsBroken())
}

// The kernel says who has answered.
func TestForkServersChildSaysWhoItIs(t *testing.T) {
	leavesNothing(t)
	end, f, m := fakeServer(t)
	setInt(m, end)
	sender := forkedWith(t, m, ctest.Answer, &shm.ForkConfig{KillWithParent: true})
	shm.Forget(sender) // as a server's child, it is not known yet
	p, err := f.Take(background)
	require.NoError(t, err)
	assert.Equal(t, sender.Pid(), p.Pid())
	require.NoError(t, sender.Kill())
	for _, p := range []*shm.Process{sender, p} { // one of the two gets the status
		_ = wait(t, p)
	}
	assert.Equal(t, int64(0), shm.ReadCounters().Live-1, "the server")
}

// A child that is known, or that another thread has forked, answers for a server that was taken over.
func TestForkServerThatHasTheChildOfAnother(t *testing.T) {
	leavesNothing(t)
	for _, kill := range []bool{false, true} {
		end, f, m := fakeServer(t)
		setInt(m, end)
		others := forkedWith(t, m, ctest.Answer, &shm.ForkConfig{KillWithParent: kill})
		if !kill {
			shm.Forget(others) // as if os/exec had forked it
		}
		_, err := take(background, f)
		assert.ErrorContains(t, err, "did not answer the question")
		assert.NoError(t, others.Signal(0), "it lives")
		require.NoError(t, others.Kill())
		assert.Equal(t, killed(others, unix.SIGKILL), wait(t, others))
	}
}

// An answer comes from a process that has ended. Another child, of os/exec for example, has its process
// id by now.
func TestForkServersAnswerOfTheDead(t *testing.T) {
	leavesNothing(t)
	end, f, m := fakeServer(t)
	setInt(m, end)
	*must(shm.At[int32](m, 4)) = 1
	var dead int
	require.True(t, eventually(func() bool { // someone else may get the process id
		var err error
		dead, err = shm.Fork(ctest.Answer, m.Addr(), page)
		require.NoError(t, err)
		_, _, err = shm.Waitpid(dead, 0)
		require.NoError(t, err)
		err = ctest.CloneAt(dead)
		if isAny(err, unix.EPERM, unix.ENOSYS, unix.EINVAL) {
			t.Skipf("this user or kernel cannot choose process ids: %v", err)
		}
		return err == nil
	}))
	_, err := take(background, f)
	assert.ErrorContains(t, err, "did not answer the question")
	_, _, err = shm.Waitpid(dead, unix.WNOHANG)
	assert.NoError(t, err, "nobody has reaped it")
	assert.NoError(t, unix.Kill(dead, 0))
	require.NoError(t, unix.Kill(dead, unix.SIGKILL))
	_, status, err := shm.Waitpid(dead, 0)
	require.NoError(t, err)
	assert.Equal(t, unix.SIGKILL, status.Signal())
}

// isAny says whether an error is one of these.
func isAny(err error, any ...error) bool {
	return slices.ContainsFunc(any, func(one error) bool { return errors.Is(err, one) })
}

func TestForkServersChildrenAreForgotten(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	known := shm.Children()
	for range 20 {
		require.NoError(t, s.Call(background, ctest.Increment))
	}
	assert.Equal(t, known, shm.Children(), "those that are reaped")
}

// A server can say that it has made a child, which has ended before it said who
// it is. This process reaps such a child, but not one of os/exec.
func TestForkServerThatClaimsTheChildOfAnother(t *testing.T) {
	leavesNothing(t)
	_, f, _ := fakeServer(t)
	for _, pid := range []int{-1, 0, 1, os.Getpid(), 1 << 30} {
		ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
		f.Claim(pid)
		_, err := f.Take(ctx)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
	}
	cmd := exec.Command("/bin/true")
	require.NoError(t, cmd.Start())
	require.True(t, eventually(func() bool { return isZombie(cmd.Process.Pid) }))
	f.Claim(cmd.Process.Pid)
	_, err := f.Take(background)
	assert.ErrorContains(t, err, "killed before it began")
	assert.NoError(t, cmd.Wait(), "its status is its owner's")
}

// A child of a server has its own control page, and no way to those of others.
func TestGarbageByAForkServersChild(t *testing.T) {
	leavesNothing(t)
	a := newAttack(t, 2, &shm.PoolConfig{ForkServer: true})
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	ends := []uint32{ctest.HostileReturn, ctest.HostilePause, ctest.HostileAbort, ctest.HostileFault}
	for range 20 {
		got, err := a.call(t, ctest.HostileRandom, ends[r.IntN(len(ends))], 0, uint32(shm.ControlPageSize), r.Uint32())
		ended(t, got, err)
		if atomic.LoadUint32(&a.order.Begun) == 1 {
			assert.Equal(t, uint32(2), a.order.Pages, "it has its own control page and slot, and no other")
		}
		a.siblingWorks(t)
	}
	for _, act := range []uint32{ctest.HostileFlood, ctest.HostileShut, ctest.HostileBlock} {
		got, err := a.call(t, act, ctest.HostileReturn, 0, 0, 0)
		ended(t, got, err)
		a.siblingWorks(t)
	}
	require.NoError(t, a.pool.Close())
}

func TestPoolOfAForkServer(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 2, &shm.PoolConfig{ForkServer: true, RestartRate: 1e6, MaxIn: page, MaxOut: page})
	for i := range 20 {
		_, err := p.Call(background, ctest.Increment, 8, 4)
		require.NoError(t, err)
		setInt(m, i)
		var exit *shm.ExitError
		_, err = p.Call(background, ctest.Crash, 0, 1)
		require.ErrorAs(t, err, &exit)
		assert.Equal(t, unix.SIGSEGV, exit.Status.Signal())
		out, err := p.Do(background, ctest.DoEcho, []byte("hello"))
		require.NoError(t, err)
		assert.Equal(t, "hello", string(out))
		_, err = p.Call(background, ctest.Sleep, 0, 2)
		require.NoError(t, err)
	}
	assert.EqualValues(t, 20, *must(shm.At[int32](m, 8)))
	_, err := shm.NewPool(m, 1, &shm.PoolConfig{ForkServer: true, InheritFDs: true})
	assert.ErrorContains(t, err, "InheritFDs and ForkServer are both set")
	assert.NoError(t, p.Close())
}

func TestForkServerWithASandbox(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 2*page, &shm.Config{Technique: shm.Memfd})
	s := newForkServer(t, m, &shm.ForkServerConfig{Init: ctest.InitWarm, Fork: *inSandbox(shm.Sandbox{
		ReadOnly: []shm.Range{{page, page}}})})
	for i := range 10 {
		setInt(m, i)
		p := served(t, s, ctest.Escape)
		denied(t, wait(t, p), ctest.Attempts()[i].Call, "by a fork server")
		assert.True(t, p.Sandboxed().Filter)
		assert.True(t, p.Sandboxed().ReadOnly)
		assert.NoError(t, s.Call(background, ctest.Increment))
	}
	pool := newPool(t, m, 1, &shm.PoolConfig{ForkServer: true, Fork: *inSandbox(shm.Sandbox{})})
	_, err := pool.Call(background, ctest.Sleep, 0, 5)
	assert.NoError(t, err)
	assert.NoError(t, pool.Close())
}

// Each child gets its own pipes, and what else the configuration has.
func TestForkServersChildrenHaveFiles(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	in := must(os.CreateTemp(t.TempDir(), "in"))
	defer in.Close()
	_ = must(in.WriteString("some input"))
	var out bytes.Buffer
	s := newForkServer(t, m, &shm.ForkServerConfig{Fork: shm.ForkConfig{
		Stdin: in, Stdout: &out, Dir: "/usr", Arg: 7, MemoryLimit: 64 << 20,
	}})
	for range 3 {
		_ = must(in.Seek(0, 0)) // the children have the same file
		assert.NoError(t, wait(t, served(t, s, ctest.Cat)))
		assert.Equal(t, "some input", out.String())
		out.Reset()
		assert.NoError(t, wait(t, served(t, s, ctest.Where)))
		assert.Equal(t, "/usr", strings.TrimSpace(out.String()))
		out.Reset()
		p := served(t, s, ctest.Arg)
		assert.Equal(t, exited(p, 7), wait(t, p))
	}
	needServer(t, s)
	p := served(t, s, ctest.Open)
	assert.Equal(t, exited(p, 3), wait(t, p), "0, 1 and 2")
	_, err := m.ForkServer(&shm.ForkServerConfig{Fork: shm.ForkConfig{Dir: "/none"}})
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// Where there can be no server, each child is forked by this process, and runs
// Init itself.
func TestForkServerThatCannotBe(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	leavesNothing(t)
	denyAll(t, []uint32{unix.SYS_GET_ROBUST_LIST})
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, &shm.ForkServerConfig{Init: ctest.InitWarm})
	assert.True(t, s.IsPlain())
	for n := range 3 {
		p := served(t, s, ctest.Warm)
		assert.Equal(t, exited(p, n+1), wait(t, p))
	}
	assert.NoError(t, s.Call(background, ctest.Increment))
	p := newPool(t, m, 1, &shm.PoolConfig{ForkServer: true})
	_, err := p.Call(background, ctest.Increment, 0, 4)
	assert.NoError(t, err)
	assert.NoError(t, p.Close())
	failing := newForkServer(t, m, &shm.ForkServerConfig{Init: ctest.InitFail})
	_, err = failing.Fork(ctest.Increment)
	assert.ErrorContains(t, err, "Init returned 3")
}

// A child cannot read the server's memory, not even as the server's user.
func TestForkServersMemoryIsItsOwn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs a child that becomes another user")
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	needServer(t, s)
	setInt(m, s.ServerPid())
	assert.NoError(t, s.Call(background, ctest.PeekAsUser))
	assert.Equal(t, int(unix.EPERM), getInt(m))
}

// Without a descriptor for the poller, a fork waits for the answer nevertheless.
// If it did not, nobody would know the child that the server makes then.
func TestForkServersAnswerWithoutDescriptors(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	m := newMapping(t, shm.Shared, page, nil)
	s := newForkServer(t, m, nil)
	needServer(t, s)
	require.NoError(t, s.Call(background, ctest.Increment))
	server := s.ServerPid()
	_, err := s.NextPid(time.Minute)
	require.NoError(t, err)
	require.NoError(t, unix.Kill(server, unix.SIGSTOP))
	require.NoError(t, s.Call(background, ctest.Increment), "the child was there already")
	t.Run("without", func(t *testing.T) {
		fillDescriptorTable(t)
		ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, s.Call(ctx, ctest.Increment), context.DeadlineExceeded)
	})
	require.NoError(t, unix.Kill(server, unix.SIGCONT))
	require.NoError(t, s.Call(background, ctest.Increment))
	assert.Equal(t, server, s.ServerPid(), "it is the same server")
	assert.Equal(t, 3, getInt(m))
}
