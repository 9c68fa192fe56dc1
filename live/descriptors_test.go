//go:build linux && cgo && livego

package live_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// untilKilled is the function of a child that does nothing.
func untilKilled() int { select {} }

// dropping forks a child that lets go of descriptors, and then runs fn.
func dropping(t *testing.T, fn func() int, keep ...syscall.Conn) *shm.Process {
	t.Helper()
	p, err := live.GoWith(fn, &live.Config{DropFDs: true, Keep: keep})
	require.NoError(t, err)
	return p
}

func kill(t *testing.T, p *shm.Process) {
	t.Helper()
	require.NoError(t, p.Kill())
	var exit *shm.ExitError
	require.ErrorAs(t, waitOrDump(p), &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Status.Signal())
}

// number returns the descriptor of an open file, and leaves its flags alone.
func number(t *testing.T, f syscall.Conn) (fd int) {
	t.Helper()
	conn, err := f.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Control(func(n uintptr) { fd = int(n) }))
	return fd
}

// While a child that has let go is alive, the parent closes what it closes.
func TestWhatTheParentClosesIsClosed(t *testing.T) {
	_, path := withFormer(t)
	idle := func(io.Writer) error { select {} }
	for name, start := range map[string]func() (*shm.Process, error){
		"Snapshot": func() (*shm.Process, error) {
			s, err := live.Snapshot(path, idle)
			if err != nil {
				return nil, err
			}
			return s.Process(), nil
		},
		"SnapshotTo": func() (*shm.Process, error) {
			s, err := live.SnapshotTo(io.Discard, idle)
			if err != nil {
				return nil, err
			}
			return s.Process(), nil
		},
		"DropFDs": func() (*shm.Process, error) {
			return live.GoWith(untilKilled, &live.Config{DropFDs: true})
		},
		"BeginWithin": func() (*shm.Process, error) {
			return live.GoWith(untilKilled, &live.Config{DropFDs: true, BeginWithin: time.Hour})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			client, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer client.Close()
			server, err := l.Accept()
			require.NoError(t, err)
			cat := exec.Command("cat")
			stdin, err := cat.StdinPipe()
			require.NoError(t, err)
			require.NoError(t, cat.Start())
			lock := filepath.Join(t.TempDir(), "lock")
			locked := flocked(t, lock)

			p, err := start()
			require.NoError(t, err)
			require.NoError(t, server.Close())
			require.NoError(t, l.Close())
			require.NoError(t, stdin.Close())
			require.NoError(t, locked.Close())
			_, err = net.Dial("tcp", l.Addr().String())
			assert.ErrorIs(t, err, syscall.ECONNREFUSED)
			_, err = client.Read(make([]byte, 1))
			assert.Equal(t, io.EOF, err)
			assert.NoError(t, cat.Wait())
			assert.NoError(t, flocked(t, lock).Close(), "the lock is free")
			again, err := net.Listen("tcp", l.Addr().String())
			if assert.NoError(t, err) {
				assert.NoError(t, again.Close())
			}
			assert.NotEqual(t, byte('Z'), state(p.Pid()), "all that beside a living child")
			assert.NoError(t, p.Kill())
			_ = waitOrDump(p)
		})
	}
}

// flocked opens a file and locks it.
func flocked(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(number(t, f), syscall.LOCK_EX|syscall.LOCK_NB))
	return f
}

// The number of a descriptor that the child lets go of stays taken. So if the
// child closes an inherited object, no descriptor of the child is closed.
func TestNumbersThatAreLetGoOfStayTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(event)
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(poll)
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	defer terminal.Close()
	numbers := []int{number(t, l.(*net.TCPListener)), number(t, r), number(t, w), event, poll,
		number(t, terminal)}

	p := dropping(t, func() int {
		for i, fd := range numbers {
			if _, err := unix.Write(fd, []byte("x")); err != unix.EBADF {
				fmt.Fprintf(os.Stderr, "write to the %dth, %d: %v\n", i, fd, err)
				return 1
			}
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
				fmt.Fprintf(os.Stderr, "the %dth, %d, is free: %v\n", i, fd, err)
				return 2
			}
		}
		mine, theirs, err := os.Pipe()
		if err != nil {
			return 3
		}
		_, _, _, _ = l.Close(), r.Close(), w.Close(), terminal.Close()
		if _, err := theirs.Write([]byte("x")); err != nil {
			return 4
		}
		if n, err := mine.Read(make([]byte, 2)); n != 1 || err != nil {
			return 5
		}
		// The runtime's poller, and what has a number that was free, work.
		own, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 6
		}
		go func() { _, _ = own.Accept() }()
		if _, err := net.Dial("tcp", own.Addr().String()); err != nil {
			return 7
		}
		if out, err := exec.Command("/bin/echo", "hello").Output(); err != nil ||
			string(out) != "hello\n" {
			return 8
		}
		return good
	})
	assert.Equal(t, good, wait(t, p))
}

// The child can read files, at offsets of its own, and cannot write to them.
func TestFilesStayReadable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, []byte("0123456789"), 0o600))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	_, err = io.ReadFull(file, make([]byte, 3))
	require.NoError(t, err)
	journal, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND,
		0o600)
	require.NoError(t, err)
	defer journal.Close()
	out, err := os.OpenFile(filepath.Join(dir, "out"), os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer out.Close()
	folder, err := os.Open(dir)
	require.NoError(t, err)
	defer folder.Close()
	memory, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(memory)
	null := openNull()
	defer unix.Close(null)

	p := dropping(t, func() int {
		rest, err := io.ReadAll(file)
		if err != nil || string(rest) != "3456789" {
			fmt.Fprintf(os.Stderr, "%q, %v\n", rest, err)
			return 1
		}
		if _, err := file.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EBADF) {
			return 2
		}
		if _, err := journal.WriteString("child\n"); err != nil {
			return 3
		}
		if _, err := out.WriteString("x"); !errors.Is(err, unix.EBADF) {
			return 4
		}
		if names, err := folder.Readdirnames(-1); err != nil || len(names) != 3 {
			fmt.Fprintln(os.Stderr, names, err)
			return 5
		}
		if _, err := unix.Write(memory, []byte("child")); err != nil {
			return 6
		}
		if _, err := unix.Write(null, []byte("x")); err != nil {
			return 7
		}
		return good
	})
	require.Equal(t, good, wait(t, p))
	offset, err := file.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	assert.EqualValues(t, 3, offset, "the parent's offset is its own")
	logged, err := os.ReadFile(journal.Name())
	require.NoError(t, err)
	assert.Equal(t, "child\n", string(logged))
	b := make([]byte, 5)
	_, err = unix.Pread(memory, b, 0)
	require.NoError(t, err)
	assert.Equal(t, "child", string(b))
}

// A program that the parent wrote can be executed, although it was open for
// writing at the fork.
func TestTheParentExecutesWhatItWrote(t *testing.T) {
	name := filepath.Join(t.TempDir(), "true") // by which busybox knows what it is to do
	program, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o700)
	require.NoError(t, err)
	copied, err := os.ReadFile("/bin/true")
	require.NoError(t, err)
	_, err = program.Write(copied)
	require.NoError(t, err)
	p := dropping(t, untilKilled)
	require.NoError(t, program.Close())
	assert.NoError(t, exec.Command(program.Name()).Run())
	kill(t, p)
}

func TestKeepIsKept(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	r2, w2, err := os.Pipe()
	require.NoError(t, err)
	defer r2.Close()
	defer w2.Close()
	p, err := live.GoWith(func() int {
		_, err1 := w.WriteString("kept")
		_, err2 := unix.Write(number(t, w2), []byte("kept"))
		if err1 != nil || err2 != nil {
			return 1
		}
		return good
	}, &live.Config{DropFDs: true, Keep: []syscall.Conn{w}, KeepFDs: []int{number(t, w2)}})
	require.NoError(t, err)
	require.Equal(t, good, wait(t, p))
	for _, r := range []*os.File{r, r2} {
		b := make([]byte, 4)
		_, err = io.ReadFull(r, b)
		require.NoError(t, err)
		assert.Equal(t, "kept", string(b))
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	closed, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	for _, c := range []struct {
		config live.Config
		want   string
	}{
		{live.Config{DropFDs: true, Keep: []syscall.Conn{closed}},
			"live: Config.Keep[0]: file already closed"},
		{live.Config{KeepFDs: []int{3}},
			"live: Config.Keep and Config.KeepFDs are exceptions from DropFDs, " +
				"but DropFDs is not set"},
		{live.Config{DropFDs: true, KeepFDs: []int{0, 1 << 20}},
			"live: Config.KeepFDs[1] is 1048576: bad file descriptor"},
		{live.Config{DropFDs: true, KeepFDs: []int{-1}},
			"live: Config.KeepFDs[0] is -1: bad file descriptor"},
		{live.Config{BeginWithin: -time.Second},
			"live: Config.BeginWithin is -1s, must not be negative"},
	} {
		_, err := live.GoWith(untilKilled, &c.config)
		assert.EqualError(t, err, c.want)
	}
	_, err = live.GoWith(nil, nil)
	assert.ErrorContains(t, err, "nil")
}

// If another file system is at /proc, the numbers are tried one by one.
func TestDescriptorsAreLetGoOfWithoutProc(t *testing.T) {
	own, out, err := inOwnProcess(t, &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS})
	if !own {
		if errors.Is(err, unix.EPERM) {
			t.Skip("this machine allows no namespace of one's own")
		}
		require.NoError(t, err, out)
		require.Contains(t, out, "--- PASS: "+t.Name())
		return
	}
	require.NoError(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	require.NoError(t, unix.Mount("none", "/proc", "tmpfs", 0, ""))
	require.NoError(t, os.MkdirAll("/proc/self/fd", 0o700))
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p := dropping(t, untilKilled)
	require.NoError(t, w.Close())
	_, err = r.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
	kill(t, p)
}

// openFiles returns the flags and the offset of each open file of this process.
// A child shares these.
func openFiles(t *testing.T) map[int]string {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	files := make(map[int]string)
	for _, e := range entries {
		var fd int
		_, err := fmt.Sscan(e.Name(), &fd)
		require.NoError(t, err)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			continue // the folder's own
		}
		offset, _ := unix.Seek(fd, 0, unix.SEEK_CUR)
		link, _ := os.Readlink("/proc/self/fd/" + e.Name())
		files[fd] = fmt.Sprintf("%s flags %#o offset %d", link, flags, offset)
	}
	return files
}

// A fork and the start of a child do not change what parent and child share.
func TestAForkLeavesOpenFilesAsTheyAre(t *testing.T) {
	if !alone(t) {
		return
	}
	_, path := withFormer(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	log.SetOutput(w)
	defer log.SetOutput(os.Stderr)
	file, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer file.Close()
	_, err = file.Seek(10, io.SeekStart)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	former, err := syscall.Dup(1)
	require.NoError(t, err)
	// non-blocking, as a standard file may be too
	require.NoError(t, syscall.Dup3(number(t, w), 1, 0))
	defer func() { _ = syscall.Dup3(former, 1, 0); _ = syscall.Close(former) }()
	before := openFiles(t)
	require.Contains(t, before[1], fmt.Sprintf("flags %#o", unix.O_WRONLY|unix.O_NONBLOCK))
	for range 2 {
		p, err := live.Go(func() int { log.Print("child"); fmt.Println("child"); return good })
		require.NoError(t, err)
		require.Equal(t, good, wait(t, p))
		require.Equal(t, good, wait(t, dropping(t, func() int { log.Print("child"); return good })))
		require.NoError(t, snapshot(t, path, writes("new")))
		s, err := live.SnapshotTo(io.Discard, writes("new"))
		require.NoError(t, err)
		require.NoError(t, ended(t, s))
	}
	assert.Equal(t, before, openFiles(t))
	require.NoError(t, w.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
	_, err = w.Write(make([]byte, 1<<20)) // that nobody reads
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// A standard file that the program closed stays closed in the child. Another
// file may have its number.
func TestAClosedStandardFileStaysClosed(t *testing.T) {
	if !alone(t) {
		return
	}
	connection(t) // the runtime's poller has its descriptors
	dir := t.TempDir()
	require.NoError(t, os.Stderr.Close())
	require.NoError(t, os.Stdin.Close())
	database, err := os.OpenFile(filepath.Join(dir, "database"), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	other, err := os.OpenFile(filepath.Join(dir, "other"), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	require.ElementsMatch(t, []int{0, 2}, []int{number(t, database), number(t, other)})
	child := func() int {
		log.Print("child")
		_, err := fmt.Fprintln(os.Stderr, "child")
		_, err2 := os.Stdin.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrClosed) || !errors.Is(err2, os.ErrClosed) {
			return 1
		}
		return good
	}
	p, err := live.Go(child)
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
	assert.Equal(t, good, wait(t, dropping(t, child)))
	for _, f := range []*os.File{database, other} {
		b, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		assert.Empty(t, b)
	}
}

// If a child ends before its function begins, GoWith does not wait for the
// limit, which here is an hour.
func TestGoWithinTellsAtOnceOfADeadChild(t *testing.T) {
	setInChild(t, func() { os.Exit(3) })
	p, err := live.GoWithin(time.Hour, func() int { return good })
	require.NoError(t, err)
	assert.Equal(t, 3, wait(t, p))
	p, err = live.GoWith(func() int { return good },
		&live.Config{BeginWithin: time.Hour, DropFDs: true})
	require.NoError(t, err)
	assert.Equal(t, 3, wait(t, p))
}

// The file of a Unix listener belongs to the process that listens. A child's
// listener removes the child's file.
func TestAListenersFileIsOfItsProcess(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "parent")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	unlinks := func(path string, l net.Listener) bool {
		_ = l.Close()
		_, err := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist)
	}
	for _, cfg := range []*live.Config{nil, {DropFDs: true}} {
		p, err := live.GoWith(func() int {
			if unlinks(path, l) {
				return 1
			}
			own, err := net.Listen("unix", dir+"/child")
			if err != nil || !unlinks(dir+"/child", own) {
				return 2
			}
			f, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/file", Net: "unix"})
			if err != nil {
				return 3
			}
			f.SetUnlinkOnClose(false)
			if unlinks(dir+"/file", f) {
				return 4
			}
			mine, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/mine", Net: "unix"})
			if err != nil {
				return 5
			}
			p, err := live.Go(func() int { _ = mine.Close(); return good })
			if err != nil || waitOrDump(p) == nil {
				return 6
			}
			if _, err := net.Dial("unix", dir+"/mine"); err != nil {
				return 7
			}
			_, _ = os.Remove(dir+"/file"), mine.Close()
			return good
		}, cfg)
		require.NoError(t, err)
		assert.Equal(t, good, wait(t, p))
	}
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	assert.True(t, unlinks(path, l), "the parent's own")
}

// A child that calls SetUnlinkOnClose takes over the listener's file.
func TestSetUnlinkOnCloseHoldsInTheChild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	defer l.Close()
	p, err := live.Go(func() int { l.SetUnlinkOnClose(true); _ = l.Close(); return good })
	require.NoError(t, err)
	require.Equal(t, good, wait(t, p))
	_, err = os.Lstat(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// As the package's doc says, the child can use a duplicate of a connection. The
// parent's connection does not change.
func TestADuplicateIsTheChildsOwn(t *testing.T) {
	if !alone(t) {
		return
	}
	here, there := connection(t)
	file, err := here.(*net.TCPConn).File()
	require.NoError(t, err)
	defer file.Close()
	before := openFiles(t)
	p := dropping(t, func() int {
		conn, err := net.FileConn(file)
		if err != nil {
			return 1
		}
		go func() { time.Sleep(time.Millisecond); _, _ = conn.Write([]byte("ask")) }()
		answer := make([]byte, 6) // it waits, in the child's poller
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "answer" {
			return 2
		}
		return good
	}, file)
	ask := make([]byte, 3)
	_, err = io.ReadFull(there, ask)
	require.NoError(t, err)
	_, err = there.Write([]byte("answer"))
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
	assert.Equal(t, before, openFiles(t))
}

// A test that fails in a child prints the failure, and makes the child fail,
// whatever its function returns.
func TestATestThatFailsInAChildFailsTheChild(t *testing.T) {
	if os.Getenv("LIVE_TEST_FAILS") == "" {
		for _, v := range []string{"-test.v=false", "-test.v=true"} {
			self, err := os.Executable()
			require.NoError(t, err)
			cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.count=1", v)
			cmd.Env = append(os.Environ(), "LIVE_TEST_FAILS=1")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			for text, n := range map[string]int{t.Name() + " failed in child": 4, "it is wrong": 2,
				"and this": 2} {
				assert.Equal(t, n, bytes.Count(out, []byte(text)), "%q in %s", text, out)
			}
		}
		return
	}
	for _, status := range []int{0, good} {
		p, err := live.Go(func() int {
			t.Error("it is wrong")
			t.Run("inner", func(t *testing.T) {})
			return status
		})
		require.NoError(t, err)
		assert.Equal(t, 1, wait(t, p))
		p, err = live.Go(func() int {
			t.Log("and this")
			p, err := live.Go(func() int { return status })
			if err != nil || p.Wait(context.Background()) != nil && status == 0 {
				return 3
			}
			t.FailNow()
			return status
		})
		require.NoError(t, err)
		assert.Equal(t, 1, wait(t, p))
	}
	p, err := live.Go(func() int { t.Log("no failure"); return good })
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
}

// A leak checker can tell inherited goroutines by the state in a traceback.
func TestTracesTellWhatIsInherited(t *testing.T) {
	stop := make(chan bool)
	defer close(stop)
	go func() { <-stop }()
	untilGoroutine(t, "[chan receive]", "TestTracesTellWhatIsInherited.func1(")
	p, err := live.Go(func() int {
		own := make(chan int)
		go func() { own <- 1 }()
		time.Sleep(time.Millisecond)
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtimeStack(stacks)]
		header := func(part string) string {
			for _, g := range strings.Split(string(stacks), "\n\n") {
				if strings.Contains(g, part) {
					line, _, _ := strings.Cut(g, "\n")
					return line
				}
			}
			return ""
		}
		for part, inherited := range map[string]bool{
			"TestTracesTellWhatIsInherited.func1(":   true,
			"TestTracesTellWhatIsInherited.func2.1(": false,
			"runtimeStack(":                          false,
		} {
			if h := header(part); h == "" || strings.Contains(h, ", inherited") != inherited {
				fmt.Fprintf(os.Stderr, "%s: %q\n%s", part, h, stacks)
				return 1
			}
		}
		return good
	})
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
	stacks := make([]byte, 1<<20)
	assert.NotContains(t, string(stacks[:runtimeStack(stacks)]), ", inherited")
}
