//go:build linux && cgo && livego

package live_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// inChild is called in the children of all forks, before the snapshot's own
// code.
var inChild atomic.Pointer[func()]

func init() {
	live.AtFork(nil, nil, func() {
		if f := inChild.Load(); f != nil {
			(*f)()
		}
	})
}

func setInChild(t *testing.T, f func()) {
	inChild.Store(&f)
	t.Cleanup(func() { inChild.Store(nil) })
}

// ended waits for a snapshot, at most as long as for any child.
func ended(t *testing.T, s *live.Saving) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), childLimit)
	defer cancel()
	err := s.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		_ = s.Process().Signal(syscall.SIGQUIT) // it prints its goroutines
		time.Sleep(2 * time.Second)
		_ = s.Kill()
		require.FailNow(t, "the snapshot hangs")
	}
	return err
}

func snapshot(t *testing.T, path string, encode func(io.Writer) error) error {
	t.Helper()
	s, err := live.Snapshot(path, encode)
	require.NoError(t, err)
	return ended(t, s)
}

func writes(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// holds asserts that a folder has the given files and no others. Names and
// contents alternate.
func holds(t *testing.T, dir string, files ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var found []string
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		found = append(found, e.Name(), string(b))
	}
	assert.Equal(t, files, found)
}

// withFormer makes a folder with a file that contains "former", and returns
// both paths.
func withFormer(t *testing.T) (dir, path string) {
	dir = t.TempDir()
	path = filepath.Join(dir, "db")
	require.NoError(t, os.WriteFile(path, []byte("former"), 0o640))
	return dir, path
}

func TestSnapshotIsTheMemoryAtTheFork(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	data := bytes.Repeat([]byte("before.."), 1<<20)
	want := string(data)
	m, err := shm.Map(shm.Shared, 8, nil)
	require.NoError(t, err)
	defer m.Close()
	changed, err := shm.At[atomic.Bool](m, 0)
	require.NoError(t, err)
	s, err := live.Snapshot(path, func(w io.Writer) error {
		for !changed.Load() {
			runtime.GC()
		}
		_, err := w.Write(data)
		return err
	})
	require.NoError(t, err)
	copy(data, bytes.Repeat([]byte("after..."), 1<<20))
	changed.Store(true)
	require.NoError(t, ended(t, s))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, want == string(b))
	assert.EqualValues(t, len(want), s.Progress())
	assert.Positive(t, s.Pause())
	assert.GreaterOrEqual(t, s.Copied(), int64(len(want)), "the parent wrote to all of it")
	assert.ErrorIs(t, s.Kill(), os.ErrProcessDone)
	require.NoError(t, snapshot(t, path, writes("again")))
	holds(t, dir, "db", "again")
}

// A child that fails tells its error. Neither the child nor its file is left,
// and the former file stays.
func TestSnapshotThatFailsLeavesTheFormerFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		encode func(io.Writer) error
		text   string // %d is the child's pid
		status int    // as wait(2) has it
		is     error
	}{
		{"error", func(io.Writer) error { return errors.New("no luck") }, "no luck", 1 << 8, nil},
		{"errno", func(io.Writer) error { return fmt.Errorf("as by %w", syscall.EXDEV) },
			"as by invalid cross-device link", 1 << 8, syscall.EXDEV},
		{"long error", func(io.Writer) error { return errors.New(strings.Repeat("long", 1000)) },
			strings.Repeat("long", 768), 1 << 8, nil},
		{"panic", func(io.Writer) error { quiet(); panic("on purpose") }, "panic: on purpose",
			2 << 8, nil},
		{"nil dereference",
			func(io.Writer) error { quiet(); return fmt.Errorf("%d", *(*int)(nil)) },
			"panic: runtime error: invalid memory address or nil pointer dereference", 2 << 8, nil},
		{"Goexit", func(io.Writer) error { runtime.Goexit(); return nil },
			"runtime.Goexit was called", 1 << 8, nil},
		{"os.Exit", func(io.Writer) error { os.Exit(7); return nil }, "child %d: exit status 7",
			7 << 8, nil},
		{"exit with 0", func(io.Writer) error { syscall.Exit(0); return nil },
			"the child exited before the snapshot was complete", 0, nil},
		{"killed",
			func(io.Writer) error { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} },
			"child %d: signal: killed", 9, nil},
		{"terminated",
			func(io.Writer) error { _ = syscall.Kill(os.Getpid(), syscall.SIGTERM); select {} },
			"child %d: signal: terminated", 15, nil},
		{"too large", func(w io.Writer) error {
			limit := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
			if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
				return err
			}
			_, err := w.Write(make([]byte, 2<<20))
			return err
		}, "write db: file too large", 1 << 8, unix.EFBIG},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, path := withFormer(t)
			t.Chdir(dir)
			for _, name := range []string{path, "new"} {
				s, err := live.Snapshot(name, func(w io.Writer) error {
					if _, err := w.Write(make([]byte, 512<<10)); err != nil {
						return err
					}
					return c.encode(w)
				})
				require.NoError(t, err)
				err = ended(t, s)
				var failed *live.SnapshotError
				require.ErrorAs(t, err, &failed)
				text := strings.ReplaceAll(c.text, "%d", strconv.Itoa(s.Process().Pid()))
				text = strings.ReplaceAll(text, "write db", "write "+name)
				assert.Equal(t, "live: snapshot to "+name+": "+text, err.Error())
				var exit *shm.ExitError
				if c.status == 0 {
					assert.False(t, errors.As(err, &exit))
				} else if assert.ErrorAs(t, err, &exit) {
					assert.EqualValues(t, c.status, exit.Status&^0x80)
				}
				if c.is != nil {
					assert.ErrorIs(t, err, c.is)
				}
				holds(t, dir, "db", "former")
			}
		})
	}
}

// quiet keeps a child's traceback out of the tests' output.
func quiet() { _ = syscall.Dup3(openNull(), 2, 0) }

func TestSnapshotKilledInItsMidst(t *testing.T) {
	dir, path := withFormer(t)
	s, err := live.Snapshot(path, func(w io.Writer) error {
		_, _ = w.Write(make([]byte, 1<<20))
		select {}
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.Progress() == 1<<20 }, childLimit,
		time.Millisecond)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	assert.Equal(t, context.Canceled, s.Wait(canceled), "it goes on")
	assert.Positive(t, s.Copied())
	require.NoError(t, s.Kill())
	var exit *shm.ExitError
	require.ErrorAs(t, ended(t, s), &exit)
	assert.Equal(t, unix.SIGKILL, exit.Status.Signal())
	assert.EqualValues(t, 1<<20, s.Progress())
	assert.Positive(t, s.Copied())
	holds(t, dir, "db", "former")
}

// ownArch returns the processor of this program, as struct seccomp_data has it.
func ownArch() uint32 {
	switch runtime.GOARCH {
	case "386":
		return unix.AUDIT_ARCH_I386
	case "arm":
		return unix.AUDIT_ARCH_ARM
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64
	case "riscv64":
		return unix.AUDIT_ARCH_RISCV64
	}
	return unix.AUDIT_ARCH_X86_64
}

// seccomp makes the kernel answer a system call of this process by an error, or
// by ending the process. For openat, only calls for a file without a name
// count. For other calls, only those with fd as the first argument count,
// unless fd is negative.
func seccomp(call uint32, fd int, answer uint32) {
	const allow = 0x7fff0000
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	jump := func(code uint16, k uint32, skip uint8) unix.SockFilter {
		// The program skips that many instructions unless the condition holds.
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | code, K: k, Jf: skip}
	}
	filter := []unix.SockFilter{load(0), jump(unix.BPF_JEQ, call, 3)}
	switch {
	case call == unix.SYS_OPENAT:
		filter = append(filter, load(32), jump(unix.BPF_JSET, unix.O_TMPFILE&^unix.O_DIRECTORY, 1))
	case fd >= 0:
		filter = append(filter, load(16), jump(unix.BPF_JEQ, uint32(fd), 1))
	default:
		filter[1].Jf = 1
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET, K: answer},
		unix.SockFilter{Code: unix.BPF_RET, K: allow})
	// A program for another processor has other numbers, as /bin/sh beside a
	// test for 386.
	own := []unix.SockFilter{load(4), jump(unix.BPF_JEQ, ownArch(), uint8(len(filter)-1))}
	filter = append(own, filter...)
	must(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
	runtime.LockOSThread()
	must(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(ptr(&prog)))
	if errno != 0 {
		panic(errno)
	}
}

const (
	dies  = 0x80000000 // SECCOMP_RET_KILL_PROCESS
	fails = 0x00050000 // SECCOMP_RET_ERRNO
)

// openFD returns the first descriptor of this process whose path is the one
// looked for.
func openFD(is func(path string) bool) int {
	for fd := 3; fd < 1000; fd++ {
		if at, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); is(at) {
			return fd
		}
	}
	panic("no such descriptor")
}

// withoutTmpfile has children find a file system that has no files without a
// name.
func withoutTmpfile() { seccomp(unix.SYS_OPENAT, -1, fails|uint32(unix.EOPNOTSUPP)) }

// Whichever call a child dies in, or is refused, the file is the former one or
// the new one, and alone.
func TestSnapshotAtEachSystemCall(t *testing.T) {
	fchown := uint32(unix.SYS_FCHOWN)
	if runtime.GOARCH == "386" || runtime.GOARCH == "arm" {
		fchown = 207 // fchown32
	}
	for _, variant := range []string{"O_TMPFILE", "named"} {
		for _, c := range []struct {
			name   string
			call   uint32
			folder bool // of the folder's descriptor
			file   string
		}{
			{"flock", unix.SYS_FLOCK, false, "former"},
			{"write", unix.SYS_WRITE, false, "former"},
			{"fchown", fchown, false, "former"},
			{"fchmod", unix.SYS_FCHMOD, false, "former"},
			{"fsync", unix.SYS_FSYNC, false, "former"},
			{"linkat", unix.SYS_LINKAT, false, "former"},
			{"renameat", unix.SYS_RENAMEAT, false, "former"},
			{"fsync of the folder", unix.SYS_FSYNC, true, "new"},
			{"exit", unix.SYS_EXIT_GROUP, false, "new"},
		} {
			for _, answer := range []uint32{dies, fails | uint32(unix.EIO)} {
				name := variant + "/" + c.name +
					map[bool]string{true: " dies", false: " fails"}[answer == dies]
				if variant == "named" && c.call == unix.SYS_LINKAT ||
					c.call == unix.SYS_EXIT_GROUP && answer != dies {
					continue // is not called; cannot fail
				}
				t.Run(name, func(t *testing.T) {
					dir, path := withFormer(t)
					setInChild(t, func() {
						if variant == "named" {
							withoutTmpfile()
						}
						if c.call == unix.SYS_FLOCK {
							seccomp(c.call, -1, answer)
						}
					})
					err := snapshot(t, path, func(w io.Writer) error {
						fd := -1
						switch {
						case c.folder:
							fd = openFD(func(path string) bool { return path == dir })
						case c.call == unix.SYS_WRITE: // the runtime writes to wake its poller, too
							fd = openFD(func(path string) bool { return strings.HasPrefix(path, dir+"/") })
						}
						seccomp(c.call, fd, answer)
						return writes("new")(w)
					})
					var exit *shm.ExitError
					switch {
					case c.call == unix.SYS_EXIT_GROUP, c.call == fchown && answer != dies:
						// The snapshot is complete; an owner is given only as far as allowed.
						assert.NoError(t, err)
						c.file = "new"
					case answer == dies:
						require.ErrorAs(t, err, &exit)
						assert.Equal(t, unix.SIGSYS, exit.Status.Signal(), "%v", err)
					default:
						require.ErrorAs(t, err, &exit)
						assert.Equal(t, 1, exit.Status.ExitStatus(), "%v", err)
						assert.ErrorIs(t, err, unix.EIO)
					}
					holds(t, dir, "db", c.file)
				})
			}
		}
	}
}

func TestSnapshotWithoutTmpfile(t *testing.T) {
	dir, path := withFormer(t)
	setInChild(t, withoutTmpfile)
	require.NoError(t, snapshot(t, path, func(w io.Writer) error {
		if _, err := os.Stat(filepath.Join(dir, ".db.live-snapshot")); err != nil {
			return err
		}
		return writes("new")(w)
	}))
	holds(t, dir, "db", "new")
	assert.ErrorContains(t,
		snapshot(t, path, func(io.Writer) error { return errors.New("no luck") }), "no luck")
	holds(t, dir, "db", "new")
}

// inOwnProcess runs the test in a process of its own, and reports whether this
// is that one. It returns the process's error to the test proper.
func inOwnProcess(t *testing.T, attr *syscall.SysProcAttr,
	env ...string) (own bool, out string, err error) {
	const mark = "LIVE_TEST_PROCESS"
	if os.Getenv(mark) == t.Name() {
		return true, "", nil
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
	cmd.Env = append(append(os.Environ(), mark+"="+t.Name()), env...)
	cmd.SysProcAttr = attr
	cmd.WaitDelay = time.Minute // a child that outlives it has its output too
	b, err := cmd.CombinedOutput()
	return false, string(b), err
}

// alone runs the test in a process of its own, for what counts all that a
// process has, and reports whether this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	own, out, err := inOwnProcess(t, nil)
	if !own {
		require.NoError(t, err, out)
		require.Contains(t, out, "--- PASS: "+t.Name())
	}
	return own
}

// state returns a process's state letter, 0 if it is gone.
func state(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if i := bytes.LastIndexByte(stat, ')'); err == nil && i >= 0 && i+2 < len(stat) {
		return stat[i+2]
	}
	return 0
}

// A parent is killed, and its snapshot ends with it, without a trace.
func TestSnapshotEndsWithItsParent(t *testing.T) {
	dir := os.Getenv("LIVE_TEST_DIR")
	if dir == "" {
		dir, _ = withFormer(t)
	}
	own, out, err := inOwnProcess(t, nil, "LIVE_TEST_DIR="+dir)
	if own {
		for i, prepare := range []func(){func() {}, withoutTmpfile} {
			setInChild(t, prepare)
			s, err := live.Snapshot(filepath.Join(dir, []string{"db", "other"}[i]),
				func(w io.Writer) error {
					_, _ = w.Write(make([]byte, 1<<20))
					select {}
				})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return s.Progress() > 0 }, childLimit,
				time.Millisecond)
			fmt.Printf("child %d\n", s.Process().Pid())
		}
		must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
	}
	require.ErrorContains(t, err, "signal: killed", out)
	for _, line := range strings.Split(out, "\n") {
		var pid int
		if n, _ := fmt.Sscanf(line, "child %d", &pid); n == 1 {
			require.Eventually(t, func() bool { s := state(pid); return s == 0 || s == 'Z' },
				childLimit, time.Millisecond)
		}
	}
	require.Equal(t, 2, strings.Count(out, "child "), out)
	holds(t, dir, "db", "former")
}

// Child and parent die between the two calls between which the new file has a
// name of its own. The next snapshot removes it.
func TestWhatTwoDeathsLeaveGoesWithTheNextSnapshot(t *testing.T) {
	dir := os.Getenv("LIVE_TEST_DIR")
	if dir == "" {
		dir, _ = withFormer(t)
	}
	own, out, err := inOwnProcess(t, nil, "LIVE_TEST_DIR="+dir)
	if own {
		parent := os.Getpid()
		s, err := live.Snapshot(filepath.Join(dir, "db"), func(w io.Writer) error {
			seccomp(unix.SYS_RENAMEAT, -1, dies)
			must(syscall.Kill(parent, syscall.SIGSTOP)) // so that it cannot see to its child's end
			for state(parent) != 'T' {
				runtime.Gosched()
			}
			// Who kills it once this one is dead.
			must(exec.Command("/bin/sh", "-c", fmt.Sprintf(
				"(until grep -q 'State:.Z' /proc/%d/status; do sleep 0.01; done; kill -KILL %d) "+
					">/dev/null 2>&1 &", os.Getpid(), parent)).Run())
			return writes("new")(w)
		})
		require.NoError(t, err)
		// The child stops this process, and its end kills it.
		require.Fail(t, "the child ended before that", "%v", s.Wait(context.Background()))
	}
	require.ErrorContains(t, err, "signal: killed", out)
	holds(t, dir, ".db.live-snapshot", "new", "db", "former")
	path := filepath.Join(dir, "db")
	left, err := os.ReadFile(filepath.Join(dir, ".db.live-snapshot"))
	require.NoError(t, err)

	err = snapshot(t, path, func(io.Writer) error { return errors.New("no luck") })
	assert.ErrorContains(t, err, "no luck")
	holds(t, dir, "db", "former")

	setInChild(t, withoutTmpfile)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".db.live-snapshot"), left, 0o600))
	require.NoError(t, snapshot(t, path, writes("newer")))
	holds(t, dir, "db", "newer")

	// One that appears while a snapshot is under way.
	setInChild(t, func() {})
	require.NoError(t, snapshot(t, path, func(w io.Writer) error {
		must(os.WriteFile(filepath.Join(dir, ".db.live-snapshot"), left, 0o600))
		return writes("newest")(w)
	}))
	holds(t, dir, "db", "newest")
}

func TestSnapshotToAFullFileSystem(t *testing.T) {
	own, out, err := inOwnProcess(t, &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS})
	if !own {
		if errors.Is(err, unix.EPERM) {
			t.Skip("this machine allows no namespace of one's own")
		}
		require.NoError(t, err, out)
		require.Contains(t, out, "--- PASS: "+t.Name())
		return
	}
	dir := t.TempDir()
	require.NoError(t, unix.Mount("none", dir, "tmpfs", 0, "size=1m"))
	defer unix.Unmount(dir, 0)
	path := filepath.Join(dir, "db")
	require.NoError(t, snapshot(t, path, writes("first")))
	for _, prepare := range []func(){func() {}, withoutTmpfile} {
		setInChild(t, prepare)
		err = snapshot(t, path, func(w io.Writer) error {
			_, err := w.Write(make([]byte, 4<<20))
			return err
		})
		assert.ErrorIs(t, err, unix.ENOSPC)
		assert.EqualError(t, err, "live: snapshot to "+path+": write "+path+
			": no space left on device")
		holds(t, dir, "db", "first")
		// One that takes no notice of it fails too.
		err = snapshot(t, path, func(w io.Writer) error {
			_, _ = w.Write(make([]byte, 4<<20))
			return nil
		})
		assert.ErrorIs(t, err, unix.ENOSPC)
		holds(t, dir, "db", "first")
		require.NoError(t, snapshot(t, path, writes("first")),
			"what failed has given its space back")
	}
}

func TestSnapshotToWhatCannotBeReplacedFailsAtOnce(t *testing.T) {
	dir, path := withFormer(t)
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	require.NoError(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	before := shm.ReadCounters().Forks
	for _, c := range []struct {
		path string
		is   error
	}{
		{filepath.Join(dir, "missing", "db"), unix.ENOENT},
		{filepath.Join(path, "db"), unix.ENOTDIR},
		{dir, unix.EISDIR},
		{dir + "/", unix.EISDIR},
		{dir + "/.", unix.EISDIR},
		{"", unix.EISDIR},
		{filepath.Join(dir, "fifo"), unix.EINVAL},
		{filepath.Join(dir, "loop"), unix.ELOOP},
		{filepath.Join(dir, strings.Repeat("long", 100)), unix.ENAMETOOLONG},
	} {
		_, err := live.Snapshot(c.path, writes(""))
		assert.ErrorIs(t, err, c.is, "%q", c.path)
		var pathError *os.PathError
		if assert.ErrorAs(t, err, &pathError, "%q", c.path) {
			assert.Equal(t, c.path, pathError.Path)
		}
	}
	assert.Equal(t, before, shm.ReadCounters().Forks)
	name := strings.Repeat("n", 255) // the longest that there can be
	require.NoError(t, snapshot(t, filepath.Join(t.TempDir(), name), writes("")))
}

// In a folder that may not be written to. Root may, so this takes another user.
func TestSnapshotWithoutPermission(t *testing.T) {
	dir := os.Getenv("LIVE_TEST_DIR")
	if dir == "" {
		if os.Getuid() != 0 {
			t.Skip("it takes root to be another user")
		}
		var err error
		dir, err = os.MkdirTemp("/tmp", "live") // TMPDIR may be where another user cannot reach it
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		require.NoError(t, os.Chmod(dir, 0o755))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "own"), 0o777))
		require.NoError(t, os.Chmod(filepath.Join(dir, "own"), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "own", "db"), []byte("former"), 0o604))
		require.NoError(t, os.Chmod(filepath.Join(dir, "own", "db"), 0o604))
		// The tests' own binary may lie where another user cannot reach it.
		self, err := os.ReadFile("/proc/self/exe")
		require.NoError(t, err)
		program := filepath.Join(dir, "test")
		require.NoError(t, os.WriteFile(program, self, 0o755))
		cmd := exec.Command(program, "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "LIVE_TEST_DIR="+dir, "TMPDIR="+filepath.Join(dir, "own"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345,
			Gid: 12345}}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: "+t.Name())
		return
	}
	_, err := live.Snapshot(filepath.Join(dir, "db"), writes("new"))
	assert.ErrorIs(t, err, os.ErrPermission)
	// A file of root's, in a folder that all may write to: it is replaced by our own, without
	// CAP_DAC_READ_SEARCH.
	path := filepath.Join(dir, "own", "db")
	require.NoError(t, snapshot(t, path, writes("new")))
	holds(t, filepath.Join(dir, "own"), "db", "new")
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	assert.EqualValues(t, 0o604, st.Mode&0o7777)
	assert.EqualValues(t, 12345, st.Uid)
}

func TestSnapshotKeepsWhatTheFormerFileWas(t *testing.T) {
	dir, path := withFormer(t)
	old := unix.Umask(0o027)
	defer unix.Umask(old)
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 123, 456
		require.NoError(t, os.Chown(path, uid, gid))
	}
	require.NoError(t, os.Chmod(path, 0o646))
	require.NoError(t, os.Link(path, filepath.Join(dir, "link")))
	require.NoError(t, snapshot(t, path, writes("new")))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	assert.EqualValues(t, 0o646, st.Mode&0o7777)
	assert.EqualValues(t, uid, st.Uid)
	assert.EqualValues(t, gid, st.Gid)
	holds(t, dir, "db", "new", "link", "former")

	require.NoError(t, snapshot(t, filepath.Join(dir, "made"), writes("")))
	require.NoError(t, unix.Stat(filepath.Join(dir, "made"), &st))
	assert.EqualValues(t, 0o640, st.Mode&0o7777, "0666 less the umask")
}

func TestSnapshotFollowsLinks(t *testing.T) {
	dir, path := withFormer(t)
	other := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "in"), 0o755))
	require.NoError(t, os.Symlink(filepath.Join(dir, "in"), filepath.Join(other, "folder")))
	require.NoError(t, os.Symlink("../db", filepath.Join(dir, "in", "second")))
	require.NoError(t, os.Symlink("folder/second", filepath.Join(other, "first")))
	require.NoError(t, os.Symlink(filepath.Join(dir, "dangling"), filepath.Join(other, "third")))
	require.NoError(t, snapshot(t, filepath.Join(other, "first"), writes("new")))
	require.NoError(t, snapshot(t, filepath.Join(other, "third"), writes("made")))
	link, err := os.Readlink(filepath.Join(other, "first"))
	require.NoError(t, err)
	assert.Equal(t, "folder/second", link)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "new", string(b))
	b, err = os.ReadFile(filepath.Join(dir, "dangling"))
	require.NoError(t, err)
	assert.Equal(t, "made", string(b))
}

func TestOneSnapshotToAFileAtATime(t *testing.T) {
	dir, path := withFormer(t)
	require.NoError(t, os.Symlink("db", filepath.Join(dir, "link")))
	release := filepath.Join(t.TempDir(), "release")
	first, err := live.Snapshot(path, func(w io.Writer) error {
		for {
			if _, err := os.Stat(release); err == nil {
				return writes("first")(w)
			}
			time.Sleep(time.Millisecond)
		}
	})
	require.NoError(t, err)
	for _, name := range []string{path, filepath.Join(dir, "link"),
		filepath.Join(dir, ".", "..", filepath.Base(dir), "db")} {
		_, err := live.Snapshot(name, writes("second"))
		assert.ErrorIs(t, err, live.ErrSaving)
	}
	require.NoError(t, snapshot(t, filepath.Join(dir, "other"), writes("other")))
	require.NoError(t, os.WriteFile(release, nil, 0o600))
	require.NoError(t, ended(t, first))
	require.NoError(t, snapshot(t, path, writes("second")))
	require.NoError(t, os.Remove(filepath.Join(dir, "link")))
	holds(t, dir, "db", "second", "other", "other")
}

// Of many processes the last wins, with a whole file, and none takes another's
// file for one that was left.
func TestSnapshotsOfManyProcessesToOneFile(t *testing.T) {
	for _, variant := range []string{"O_TMPFILE", "named"} {
		t.Run(variant, func(t *testing.T) {
			dir, path := withFormer(t)
			if variant == "named" {
				setInChild(t, withoutTmpfile)
			}
			var children []*shm.Process
			for i := range 4 {
				p, err := live.Go(func() int {
					done := 0
					for n := 0; n < 15 || done == 0; n++ {
						// The snapshots of other processes end, and then this one has its turn.
						s, err := live.Snapshot(path, func(w io.Writer) error {
							_, err := w.Write(bytes.Repeat([]byte{byte('a' + i)}, 1<<16+n))
							return err
						})
						must(err)
						switch err := s.Wait(context.Background()); {
						case err == nil:
							done++
						case variant == "named" &&
							strings.HasSuffix(err.Error(), live.ErrSaving.Error()):
						default:
							panic(err)
						}
					}
					return good
				})
				require.NoError(t, err)
				children = append(children, p)
			}
			for _, p := range children {
				assert.Equal(t, good, wait(t, p))
			}
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(b), 1<<16)
			assert.Equal(t, bytes.Repeat(b[:1], len(b)), b)
			holds(t, dir, "db", string(b))
		})
	}
}

// What goroutines do under a lock is in the snapshot wholly or not at all.
func TestSnapshotUnderWriteLoadIsConsistent(t *testing.T) {
	const accounts, total = 1000, 1000 * 1000
	var mu sync.Mutex
	balance := map[int]int{}
	version, mirror := 0, 0
	for i := range accounts {
		balance[i] = total / accounts
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for g := range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for n := g; ; n += 7 {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				version++
				balance[n%accounts]--
				if n%50 == 0 {
					runtime.Gosched() // with the lock held
				}
				balance[n*31%accounts]++
				mirror = version
				mu.Unlock()
			}
		}()
	}
	defer all.Wait()
	defer close(stop)
	_, path := withFormer(t)
	last := 0
	for range 30 {
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return version > last // the parent goes on
		}, childLimit, time.Millisecond)
		s, err := live.Snapshot(path, func(w io.Writer) error {
			if mu.TryLock() {
				return errors.New("the lock is free in the child")
			}
			sum := 0
			for _, b := range balance {
				sum += b
			}
			return binary.Write(w, binary.LittleEndian,
				[]int64{int64(sum), int64(version), int64(mirror)})
		}, &mu)
		require.NoError(t, err)
		require.NoError(t, ended(t, s))
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		got := make([]int64, 3)
		require.NoError(t, binary.Read(bytes.NewReader(b), binary.LittleEndian, got))
		assert.EqualValues(t, total, got[0])
		assert.Equal(t, got[1], got[2])
		assert.Greater(t, int(got[1]), last)
		last = int(got[1])
	}
}

// order notes which locks are taken and released.
type order struct {
	name string
	log  *[]string
}

func (o order) Lock()   { *o.log = append(*o.log, "+"+o.name) }
func (o order) Unlock() { *o.log = append(*o.log, "-"+o.name) }

func TestSnapshotReleasesItsLocks(t *testing.T) {
	var log []string
	dir, path := withFormer(t)
	s, err := live.Snapshot(path,
		func(w io.Writer) error { return writes(strings.Join(log, " "))(w) },
		order{"a", &log}, order{"b", &log})
	require.NoError(t, err)
	assert.Equal(t, []string{"+a", "+b", "-b", "-a"}, log)
	require.NoError(t, ended(t, s))
	holds(t, dir, "db", "+a +b")

	_, err = live.Snapshot(filepath.Join(dir, "missing", "db"), writes(""), order{"c", &log})
	require.Error(t, err)
	assert.Len(t, log, 4)

	var rw sync.RWMutex
	rw.RLock() // readers go on
	require.NoError(t, func() error {
		s, err := live.Snapshot(path, writes("read"), rw.RLocker())
		require.NoError(t, err)
		return ended(t, s)
	}())
	rw.RUnlock()
	assert.True(t, rw.TryLock())
}

// locker is called while a snapshot's fork is about to be.
type locker func()

func (f locker) Lock() { f() }
func (locker) Unlock() {}

func TestTheCollectorIsOffOverTheForkOnly(t *testing.T) {
	was := debug.SetGCPercent(73)
	defer debug.SetGCPercent(was)
	var other *shm.Process
	_, path := withFormer(t)
	s, err := live.Snapshot(path, writes(""), locker(func() {
		var err error
		// As another goroutine of the program may do.
		other, err = live.Go(func() int { return debug.SetGCPercent(100) })
		require.NoError(t, err)
	}))
	require.NoError(t, err)
	require.NoError(t, ended(t, s))
	assert.Equal(t, 73, wait(t, other))
	assert.Equal(t, 73, debug.SetGCPercent(73))
	require.NoError(t, snapshot(t, path, writes("")))

	s, err = live.Snapshot(path, writes(""), locker(func() {
		runtime.GC() // which the program may ask for
		assert.Equal(t, 73, debug.SetGCPercent(74), "it is the program's own")
	}))
	require.NoError(t, err)
	require.NoError(t, ended(t, s))
	assert.Equal(t, 74, debug.SetGCPercent(-1), "what the program set meanwhile stays")
	require.NoError(t, snapshot(t, path, writes("")))
	assert.Equal(t, -1, debug.SetGCPercent(-1))
}

// Nobody waits for a collection with a snapshot's locks held.
func TestSnapshotTakesItsLocksBetweenCollections(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	heap := make([][]byte, 1<<17)
	for i := range heap {
		heap[i] = make([]byte, 100)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				sink = make([]byte, 4<<10)
			}
		}
	}()
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumGC
	}
	_, path := withFormer(t)
	first := collections()
	for range 10 {
		var c counting
		c.count = collections
		s, err := live.Snapshot(path, writes(""), &c)
		require.NoError(t, err)
		assert.Equal(t, c.taken, c.released)
		require.NoError(t, ended(t, s))
	}
	assert.Greater(t, collections(), first)
	runtime.KeepAlive(heap)
}

// counting is a lock that counts when it is taken, and when it is released.
type counting struct {
	count           func() uint32
	taken, released uint32
}

func (c *counting) Lock()   { c.taken = c.count() }
func (c *counting) Unlock() { c.released = c.count() }

// An encode that allocates little runs without the collector, and one that
// allocates much does not grow without bound.
func TestTheCollectorRunsInTheChildWhenItMust(t *testing.T) {
	if !alone(t) { // the child's memory is to be its own
		return
	}
	heap := make([][]byte, 1<<17) // 128 MiB
	for i := range heap {
		heap[i] = make([]byte, 1<<10)
	}
	_, path := withFormer(t)
	collections := func(allocate int) int {
		require.NoError(t, snapshot(t, path, func(w io.Writer) error {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			before := m.NumGC
			for range allocate {
				sink = make([]byte, 1<<10)
			}
			runtime.ReadMemStats(&m)
			var usage syscall.Rusage
			must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
			if usage.Maxrss > 1<<20 {
				return fmt.Errorf("%d KiB resident", usage.Maxrss)
			}
			_, err := fmt.Fprint(w, m.NumGC-before)
			return err
		}))
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		n, err := strconv.Atoi(string(b))
		require.NoError(t, err)
		return n
	}
	assert.Zero(t, collections(20<<10))
	assert.Positive(t, collections(2<<20))
	runtime.KeepAlive(heap)
}

func TestSnapshotTo(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var got bytes.Buffer
	s, err := live.SnapshotTo(&got, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	require.NoError(t, err)
	require.NoError(t, ended(t, s))
	assert.True(t, bytes.Equal(data, got.Bytes()))
	assert.EqualValues(t, len(data), s.Progress())
	assert.Positive(t, s.Copied())

	got.Reset()
	s, err = live.SnapshotTo(&got, func(w io.Writer) error { return errors.New("no luck") })
	require.NoError(t, err)
	assert.EqualError(t, ended(t, s), "live: snapshot: no luck")

	s, err = live.SnapshotTo(&got, func(w io.Writer) error { select {} })
	require.NoError(t, err)
	require.NoError(t, s.Kill())
	var exit *shm.ExitError
	require.ErrorAs(t, ended(t, s), &exit)
	assert.Equal(t, unix.SIGKILL, exit.Status.Signal())
}

// full is a writer that fails once it has some bytes.
type full int

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, unix.ENOSPC
	}
	return len(p), nil
}

func TestSnapshotToAWriterThatFails(t *testing.T) {
	room := full(100_000)
	s, err := live.SnapshotTo(&room, func(w io.Writer) error {
		for { // and the child takes no notice
			_, _ = w.Write(make([]byte, 1<<20))
		}
	})
	require.NoError(t, err)
	err = ended(t, s)
	assert.ErrorIs(t, err, unix.ENOSPC)
	assert.EqualError(t, err, "live: snapshot: no space left on device")
}

// Another child has the pipe's writing end too, and lives on.
func TestSnapshotToEndsWithItsOwnChild(t *testing.T) {
	var other *shm.Process
	var got bytes.Buffer
	s, err := live.SnapshotTo(&got, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 1<<20))
		return err
	}, locker(func() {
		var err error
		other, err = live.Go(func() int { select {} })
		require.NoError(t, err)
		t.Cleanup(func() { _ = other.Kill() })
	}))
	require.NoError(t, err)
	require.NoError(t, ended(t, s))
	assert.Equal(t, 1<<20, got.Len())
	require.NoError(t, other.Kill())
	var exit *shm.ExitError
	require.ErrorAs(t, waitOrDump(other), &exit)
}

func TestSnapshotLeavesNothingBehind(t *testing.T) {
	if !alone(t) {
		return
	}
	_, path := withFormer(t)
	round := func() {
		require.NoError(t, snapshot(t, path, writes("new")))
		require.Error(t, snapshot(t, path, func(io.Writer) error { return errors.New("no luck") }))
		s, err := live.Snapshot(path, func(io.Writer) error { select {} })
		require.NoError(t, err)
		require.NoError(t, s.Kill())
		require.Error(t, ended(t, s))
		s, err = live.SnapshotTo(io.Discard, writes("new"))
		require.NoError(t, err)
		require.NoError(t, ended(t, s))
		room := full(0)
		s, err = live.SnapshotTo(&room, writes("new"))
		require.NoError(t, err)
		require.Error(t, ended(t, s))
		s, err = live.Snapshot(path, writes("new")) // that nobody waits for
		require.NoError(t, err)
		require.Eventually(t,
			func() bool { return s.Process().Signal(0) != nil && ended(t, s) == nil }, childLimit,
			time.Millisecond)
		_, err = live.Snapshot(path+"/x", writes("new"))
		require.Error(t, err)
	}
	count := func() (fds, maps, goroutines int) {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		b, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		return len(entries), bytes.Count(b, []byte(" rw-s ")), runtime.NumGoroutine()
	}
	round()
	s, err := live.SnapshotTo(io.Discard, func(io.Writer) error { select {} })
	require.NoError(t, err)
	var fds, maps, goroutines int
	f, m, g := count()
	require.NoError(t, s.Kill())
	require.Error(t, ended(t, s))
	require.Eventually(t, func() bool { // what is to be counted is
		fds, maps, goroutines = count()
		return fds < f && maps < m && goroutines <= g // Eventually has one
	}, childLimit, 10*time.Millisecond)
	for range 15 {
		round()
	}
	require.Eventually(t, func() bool {
		f, m, g := count()
		return f <= fds && m <= maps && g <= goroutines // Eventually has one, then and now
	}, childLimit, 10*time.Millisecond)
	_, err = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	assert.Equal(t, syscall.ECHILD, err, "no child, no zombie")
}
