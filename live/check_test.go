//go:build linux && cgo && livego

package live_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func waitsForTheLock(a *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
}

// found returns the one finding of a kind for which matches holds.
func found(t *testing.T, kind live.Kind, matches func(live.Finding) bool) live.Finding {
	t.Helper()
	all, err := live.Check()
	require.NoError(t, err)
	var some []live.Finding
	for _, f := range all {
		if f.Kind == kind && matches(f) {
			some = append(some, f)
		}
	}
	require.Len(t, some, 1, "%v", all)
	return some[0]
}

func TestCheckFindsALockThatIsWaitedFor(t *testing.T) {
	a, held, end := new(account), make(chan bool), make(chan bool)
	go holdsTheLock(a, held, end)
	<-held
	defer close(end)
	go waitsForTheLock(a)
	waits := func(f live.Finding) bool {
		return len(f.Waiting) == 1 && strings.HasSuffix(f.Waiting[0].Function, ".waitsForTheLock")
	}
	require.Eventually(t, func() bool {
		all, err := live.Check()
		require.NoError(t, err)
		for _, f := range all {
			if f.Kind == live.Lock && waits(f) {
				return true
			}
		}
		return false
	}, childLimit, time.Millisecond)
	f := found(t, live.Lock, waits)
	assert.Regexp(t, `^lock: sync.Mutex at 0x[0-9a-f]+: it stays held in the child
	waited for by goroutine \d+ \[sync.Mutex.Lock\] at \S+\.waitsForTheLock \(\S+check_test.go:\d+\)
	may be held by goroutine \d+ \[chan receive\] at \S+\.holdsTheLock \(\S+watch_test.go:\d+\)$`, f.String())
	assert.Equal(t, -1, f.FD)
}

func TestCheckFindsDescriptors(t *testing.T) {
	here, there := connection(t)
	fd := descriptorOf(t, here.(syscall.Conn))
	reading := make(chan bool)
	go func() {
		close(reading)
		_, _ = here.Read(make([]byte, 1))
	}()
	<-reading
	is := func(f live.Finding) bool { return f.FD == fd }
	require.Eventually(t, func() bool { return len(found(t, live.Socket, is).Waiting) == 1 }, childLimit, time.Millisecond)
	f := found(t, live.Socket, is)
	assert.Equal(t, "tcp "+here.LocalAddr().String()+" to "+here.RemoteAddr().String(), f.What)
	assert.Contains(t, f.Waiting[0].Function, "TestCheckFindsDescriptors.func")
	_, err := there.Write([]byte{1})
	require.NoError(t, err)

	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	fd = descriptorOf(t, r)
	assert.Contains(t, found(t, live.Pipe, is).What, "pipe:[")

	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, syscall.Flock(int(file.Fd()), syscall.LOCK_EX))
	fd = descriptorOf(t, file)
	assert.Equal(t, file.Name()+", open for writing, locked by flock(2)", found(t, live.OpenFile, is).What)
}

func descriptorOf(t *testing.T, c syscall.Conn) (fd int) {
	conn, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Control(func(n uintptr) { fd = int(n) }))
	return fd
}

func calledLate() {}

func TestCheckFindsTimersAndMemory(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	require.NoError(t, ctx.Err())
	defer time.AfterFunc(time.Hour, calledLate).Stop()
	found(t, live.Timer, func(f live.Finding) bool { return strings.HasSuffix(f.What, "deadlines of contexts") })
	found(t, live.Timer, func(f live.Finding) bool { return strings.Contains(f.What, "live_test.calledLate by time.AfterFunc") })

	m, err := shm.Map(shm.Shared, 1<<16, nil)
	require.NoError(t, err)
	defer m.Close()
	m.Bytes()[0] = 1
	all, err := live.Check()
	require.NoError(t, err)
	kinds := map[live.Kind]bool{}
	for _, f := range all {
		kinds[f.Kind] = true
	}
	assert.True(t, kinds[live.SharedMemory])
}

func TestCheckFindsSystemCallsAndThreads(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	fd := int(r.Fd()) // which blocks from here on
	done := make(chan bool)
	go func() {
		defer close(done)
		_, _ = syscall.Read(fd, make([]byte, 1))
	}()
	reads := func() bool {
		all, err := live.Check()
		require.NoError(t, err)
		for _, f := range all {
			if f.Kind == live.SystemCall && strings.Contains(f.What, "TestCheckFindsSystemCallsAndThreads.func") {
				return true
			}
		}
		return false
	}
	require.Eventually(t, reads, childLimit, time.Millisecond)
	require.NoError(t, w.Close())
	<-done
}

// With LIVE_CHECK=1 a fork prints what Check finds.
func TestAForkPrintsWhatCheckFinds(t *testing.T) {
	if os.Getenv("LIVE_TEST_CHECK") != "" {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		p, err := live.Go(func() int { return good })
		require.NoError(t, err)
		assert.Equal(t, good, wait(t, p))
		return
	}
	for _, check := range []string{"1", ""} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAForkPrintsWhatCheckFinds$")
		cmd.Env = append(os.Environ(), "LIVE_TEST_CHECK=1", "LIVE_CHECK="+check)
		stderr, err := cmd.StderrPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		text, err := io.ReadAll(stderr)
		require.NoError(t, err)
		require.NoError(t, cmd.Wait())
		if check == "" {
			assert.Empty(t, string(text))
			continue
		}
		assert.Regexp(t, `(?m)^live: \d+ things that a child forked now could not use as process \d+ does \(LIVE_CHECK=1\):\n`+
			`(live: .*\n)*live: pipe: pipe:\[\d+\], descriptor \d+: `, string(text))
	}
}
