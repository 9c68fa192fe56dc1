//go:build linux && cgo

package shm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// needFilter skips a test where the kernel, or what this runs in, has no seccomp
// filters.
func needFilter(t testing.TB) {
	t.Helper()
	if !sandboxed(t).Filter {
		t.Skip("this kernel or container has no seccomp(2) filters")
	}
}

// needLandlock skips a test where the kernel has no landlock(7) of this version.
func needLandlock(t testing.TB, version int) {
	t.Helper()
	needFilter(t)
	if has := sandboxed(t).Landlock; has < version {
		t.Skipf("this kernel or container has version %d of landlock(7), need %d", has, version)
	}
}

// sandboxed returns what of a sandbox can be had here.
func sandboxed(t testing.TB) shm.Sandboxed {
	t.Helper()
	m := newMapping(t, shm.Shared, page, nil)
	p := forkedWith(t, m, ctest.Increment, &shm.ForkConfig{Sandbox: &shm.Sandbox{Optional: true}})
	assert.NoError(t, wait(t, p))
	return p.Sandboxed()
}

func inSandbox(box shm.Sandbox) *shm.ForkConfig { return &shm.ForkConfig{Sandbox: &box} }

// A program in C that computes notices nothing of its sandbox.
func TestSandboxLetsCompute(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for name, cfg := range setUps {
		var with shm.ForkConfig
		if cfg != nil {
			with = *cfg
		}
		for _, deny := range []shm.Deny{shm.Report, shm.Errno, shm.Kill} {
			with.Sandbox = &shm.Sandbox{OnDeny: deny}
			clear(m.Bytes())
			p := forkedWith(t, m, ctest.Compute, &with)
			assert.NoError(t, wait(t, p), "%s, %d", name, deny)
			assert.Contains(t, string(m.Bytes()[:64]), "1.000 done")
			assert.True(t, p.Sandboxed().Filter)
		}
	}
}

// denied wants a child to have ended by a denied call of this name.
func denied(t *testing.T, err error, call, what string) *shm.Denied {
	t.Helper()
	var exit *shm.ExitError
	if !assert.ErrorAs(t, err, &exit, what) || !assert.NotNil(t, exit.Denied, "%s: %v", what, err) {
		return nil
	}
	assert.Equal(t, unix.SIGSYS, exit.Status.Signal(), what)
	assert.False(t, exit.Status.CoreDump(), what)
	assert.Equal(t, call, exit.Denied.Name, what)
	assert.Nil(t, exit.Crash, what)
	return exit.Denied
}

// Each attempt to get out of a sandbox is denied, and named.
func TestNoWayOutOfASandbox(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	attempts := ctest.Attempts()
	for i, a := range attempts {
		setInt(m, i)
		err := wait(t, forkedWith(t, m, ctest.Escape, inSandbox(shm.Sandbox{})))
		denied(t, err, a.Call, a.What)
	}
	assert.GreaterOrEqual(t, len(attempts), 60)
	t.Logf("%d attempts, each denied and named", len(attempts))
}

// With Errno, each attempt fails with EPERM, and the child goes on.
func TestAttemptsFailWithErrno(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	p := forkedWith(t, m, ctest.EscapeAll, inSandbox(shm.Sandbox{OnDeny: shm.Errno}))
	require.NoError(t, wait(t, p))
	errnos := must(shm.Slice[int32](m, 0, page/4))
	for i, a := range ctest.Attempts() {
		assert.Equal(t, unix.EPERM, unix.Errno(errnos[i]), a.What)
	}
}

// With Kill, the kernel ends the child at once, and nobody says by which call.
func TestAttemptsAreKilled(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for i := 0; i < len(ctest.Attempts()); i += 20 {
		setInt(m, i)
		p := forkedWith(t, m, ctest.Escape, inSandbox(shm.Sandbox{OnDeny: shm.Kill}))
		assert.Equal(t, killed(p, unix.SIGSYS), wait(t, p))
	}
}

// The error says which call, and where.
func TestDeniedSaysWhere(t *testing.T) {
	needFilter(t)
	m := newMapping(t, shm.Shared, page, nil)
	setInt(m, 0)
	for _, cfg := range []shm.ForkConfig{
		{}, {NoCrashReport: true}, {KillWithParent: true}, {Lean: true},
	} {
		cfg.Sandbox = new(shm.Sandbox)
		p := forkedWith(t, m, ctest.Escape, &cfg)
		err := wait(t, p)
		d := denied(t, err, "openat", "openat")
		require.NotNil(t, d)
		assert.EqualValues(t, unix.SYS_OPENAT, d.Syscall)
		assert.NotZero(t, d.PC)
		assert.Contains(t, err.Error(),
			fmt.Sprintf("child %d: sandbox: system call openat denied, at ", p.Pid()))
		if runtime.GOARCH != "386" { // its calls are made in the vDSO, which is no file
			assert.NotEmpty(t, d.Module)
			assert.Regexp(t, `, at .*\+0x[0-9a-f]+`, err.Error())
		}
	}
}

// call makes a system call in a child, and returns what it returns: a negative number is an errno.
func call(t *testing.T, m *shm.Mapping, cfg *shm.ForkConfig, number uintptr, args ...uintptr) (
	int, error) {
	t.Helper()
	words := must(shm.Slice[uintptr](m, 0, 7))
	clear(words)
	words[0] = number
	copy(words[1:], args)
	err := wait(t, forkedWith(t, m, ctest.RawCall, cfg))
	return int(words[0]), err
}

// What C libraries call in passing fails, and does not end the child.
func TestCallsInPassingFail(t *testing.T) {
	needFilter(t)
	m := newMapping(t, shm.Shared, page, nil)
	cfg := inSandbox(shm.Sandbox{})
	for _, c := range []struct {
		number uintptr
		args   []uintptr
		want   unix.Errno
	}{
		{unix.SYS_CLONE3, nil, unix.ENOSYS},
		{unix.SYS_IOCTL, []uintptr{1, unix.TCGETS}, unix.ENOTTY},
		{unix.SYS_STATX, []uintptr{1, 0, unix.AT_EMPTY_PATH}, unix.EACCES},
		{unix.SYS_SYSINFO, nil, unix.EPERM},
	} {
		got, err := call(t, m, cfg, c.number, c.args...)
		assert.NoError(t, err)
		assert.Equal(t, -int(c.want), got, c.number)
	}
}

// A child that crashes in a sandbox says where, though it cannot read its maps.
func TestCrashesInASandboxAreReported(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	for how, sig := range map[int]unix.Signal{
		1: unix.SIGSEGV, 3: unix.SIGILL, 4: unix.SIGSEGV, 5: unix.SIGABRT,
	} {
		exit := crashOf(t, how, inSandbox(shm.Sandbox{}))
		assert.Equal(t, sig, exit.Status.Signal(), "%v", exit)
		assert.False(t, exit.Status.CoreDump())
		require.NotNil(t, exit.Crash, "%v", exit)
		assert.NotZero(t, exit.Crash.PC)
		// 386 aborts in the vDSO, which is no file.
		assert.True(t, exit.Crash.Module != "" || sig == unix.SIGABRT, "%v", exit)
		assert.Nil(t, exit.Denied)
	}
}

// With clone(2) allowed, threads work: libc goes back to it from clone3(2).
func TestThreadsInASandbox(t *testing.T) {
	needLandlock(t, 1)
	m := newMapping(t, shm.Shared, 64, nil)
	for i := range m.Bytes() {
		m.Bytes()[i] = 1
	}
	err := wait(t, forkedWith(t, m, ctest.SumByThreads, inSandbox(shm.Sandbox{})))
	denied(t, err, "clone", "a thread")
	threads := inSandbox(shm.Sandbox{Allow: []uintptr{unix.SYS_CLONE}})
	p := forkedWith(t, m, ctest.SumByThreads, threads)
	assert.Equal(t, exited(p, 64), wait(t, p))
}

// Custom is the end, and what is allowed.
func TestCustomAllowsWhatAllowNames(t *testing.T) {
	needLandlock(t, 1)
	m := newMapping(t, shm.Shared, page, nil)
	for _, cfg := range []shm.ForkConfig{{}, {ProcessGroup: true}, {KillWithParent: true}} {
		cfg.Sandbox = &shm.Sandbox{Policy: shm.Custom}
		assert.NoError(t, wait(t, forkedWith(t, m, ctest.Increment, &cfg)))
	}
	_, err := call(t, m, inSandbox(shm.Sandbox{Policy: shm.Custom}), unix.SYS_GETPPID)
	denied(t, err, "getppid", "getppid")
	allowed := inSandbox(shm.Sandbox{Policy: shm.Custom, Allow: []uintptr{unix.SYS_GETPPID}})
	got, err := call(t, m, allowed, unix.SYS_GETPPID)
	assert.NoError(t, err)
	assert.Equal(t, os.Getpid(), got)
}

// A sandbox closes descriptors, except those to keep.
func TestSandboxClosesDescriptors(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Memfd})
	text := uintptr(m.Addr()) + 512
	copy(m.Bytes()[512:], "hello")
	got, err := call(t, m, inSandbox(shm.Sandbox{}), unix.SYS_WRITE, w.Fd(), text, 5)
	assert.NoError(t, err)
	assert.Equal(t, -int(unix.EBADF), got)
	keep := &shm.ForkConfig{Sandbox: new(shm.Sandbox), KeepFDs: []int{int(w.Fd())}}
	got, err = call(t, m, keep, unix.SYS_WRITE, w.Fd(), text, 5)
	assert.NoError(t, err)
	assert.Equal(t, 5, got)
	require.NoError(t, w.Close())
	assert.Equal(t, "hello", string(readAll(t, r)))
	_, err = shm.NewPool(m, 1, &shm.PoolConfig{InheritFDs: true, Fork: *inSandbox(shm.Sandbox{})})
	assert.ErrorIs(t, err, unix.EINVAL)
}

func readAll(t *testing.T, f *os.File) []byte {
	t.Helper()
	var all []byte
	for {
		b := make([]byte, 512)
		n, err := f.Read(b)
		all = append(all, b[:n]...)
		if err != nil {
			return all
		}
	}
}

// A child in a sandbox has no capability, and gets none.
func TestSandboxDropsCapabilities(t *testing.T) {
	needLandlock(t, 1)
	m := newMapping(t, shm.Shared, page, nil)
	header, data := uintptr(m.Addr())+512, uintptr(m.Addr())+1024
	must(shm.At[unix.CapUserHeader](m, 512)).Version = unix.LINUX_CAPABILITY_VERSION_3
	fill(m.Bytes()[1024:1024+24], 255)
	cfg := inSandbox(shm.Sandbox{Allow: []uintptr{unix.SYS_CAPGET, unix.SYS_PRCTL}})
	got, err := call(t, m, cfg, unix.SYS_CAPGET, header, data)
	assert.NoError(t, err)
	assert.Zero(t, got)
	assert.Equal(t, make([]byte, 24), m.Bytes()[1024:1024+24])
	got, err = call(t, m, cfg, unix.SYS_PRCTL, unix.PR_GET_NO_NEW_PRIVS)
	assert.NoError(t, err)
	assert.Equal(t, 1, got)
}

func TestSandboxRefusesWhatItCannotDo(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 2*page, &shm.Config{Technique: shm.Memfd})
	many := make([]shm.Range, 65)
	for _, c := range []struct {
		box  shm.Sandbox
		want error
		text string
	}{
		{shm.Sandbox{Policy: 7}, unix.EINVAL,
			"Policy is 7, must be Compute or Custom: invalid argument"},
		{shm.Sandbox{OnDeny: -1}, unix.EINVAL,
			"OnDeny is -1, must be Report, Errno or Kill: invalid argument"},
		{shm.Sandbox{Allow: []uintptr{1 << 30}}, unix.EINVAL,
			"no system call has the number 1073741824 of Allow[0]: invalid argument"},
		{shm.Sandbox{Paths: []shm.PathRule{{Path: "/", Access: 9}}}, unix.EINVAL,
			"Paths[0].Access is 9, must be PathRead, PathWrite or PathExecute: invalid argument"},
		{shm.Sandbox{ReadOnly: many}, unix.EINVAL,
			"ReadOnly has 65 ranges, at most 64 are possible: invalid argument"},
		{shm.Sandbox{ReadOnly: []shm.Range{{0, page}, {page, page + 1}}}, shm.ErrRange,
			fmt.Sprintf("ReadOnly[1], %d bytes at offset %d: out of range of a mapping of %d bytes",
				page+1, page, 2*page)},
		{shm.Sandbox{ReadOnly: []shm.Range{{1, page}}}, shm.ErrAlign,
			fmt.Sprintf("ReadOnly[0], %d bytes at offset 1: misaligned: "+
				"must be whole pages of %d bytes", page, page)},
	} {
		_, err := m.Fork(ctest.Increment, inSandbox(c.box))
		assert.EqualError(t, err,
			fmt.Sprintf("shm: fork %d bytes: ForkConfig.Sandbox: %s", 2*page, c.text))
		assert.ErrorIs(t, err, c.want)
	}
	anonymous := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	_, err := anonymous.Fork(ctest.Increment,
		inSandbox(shm.Sandbox{ReadOnly: []shm.Range{{0, page}}}))
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.Zero(t, getInt(m)+getInt(anonymous), "no child ran")
}

// path puts a path into the mapping, for a child, and returns its address.
func path(m *shm.Mapping, path string) uintptr {
	n := copy(m.Bytes()[512:], path)
	m.Bytes()[512+n] = 0
	return uintptr(m.Addr()) + 512
}

// openIn opens a file in a child, and returns the errno of that.
func openIn(t *testing.T, m *shm.Mapping, box shm.Sandbox, name string, flags int) unix.Errno {
	t.Helper()
	dir := unix.AT_FDCWD
	got, err := call(t, m, inSandbox(box), unix.SYS_OPENAT,
		uintptr(dir), path(m, name), uintptr(flags), 0o600)
	require.NoError(t, err)
	return unix.Errno(max(0, -got))
}

// A child opens what Paths has, and nothing else.
func TestPathsAreAllThatAChildOpens(t *testing.T) {
	needLandlock(t, 3)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	dir := t.TempDir()
	for _, folder := range []string{"read", "write", "other"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, folder), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(dir, folder, "file"), []byte("text"), 0o666))
	}
	read, write := filepath.Join(dir, "read/file"), filepath.Join(dir, "write/file")
	other := filepath.Join(dir, "other/file")
	require.NoError(t, os.Symlink(other, filepath.Join(dir, "read/link")))
	box := shm.Sandbox{Paths: []shm.PathRule{
		{Path: filepath.Join(dir, "read")}, {filepath.Join(dir, "write"), shm.PathWrite}}}
	for _, c := range []struct {
		path  string
		flags int
		want  unix.Errno
	}{
		{read, unix.O_RDONLY, 0},
		{filepath.Join(dir, "read"), unix.O_RDONLY | unix.O_DIRECTORY, 0},
		{read, unix.O_WRONLY, unix.EACCES},
		{read, unix.O_RDONLY | unix.O_TRUNC, unix.EACCES},
		{filepath.Join(dir, "read/new"), unix.O_WRONLY | unix.O_CREAT, unix.EACCES},
		{filepath.Join(dir, "read/link"), unix.O_RDONLY, unix.EACCES},
		{filepath.Join(dir, "read/../other/file"), unix.O_RDONLY, unix.EACCES},
		{write, unix.O_RDWR, 0},
		{filepath.Join(dir, "write/new"), unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC, 0},
		{other, unix.O_RDONLY, unix.EACCES},
		{filepath.Join(dir, "other"), unix.O_RDONLY | unix.O_DIRECTORY, unix.EACCES},
		{"/etc/passwd", unix.O_RDONLY, unix.EACCES},
		{fmt.Sprintf("/proc/%d/mem", os.Getpid()), unix.O_RDWR, unix.EACCES},
		{fmt.Sprintf("/proc/%d/fd", os.Getpid()), unix.O_RDONLY, unix.EACCES},
	} {
		assert.Equal(t, c.want, openIn(t, m, box, c.path, c.flags), "%s %#x", c.path, c.flags)
	}
	assert.Equal(t, "text", string(must(os.ReadFile(read))))
	assert.FileExists(t, filepath.Join(dir, "write/new"))
	_, err := m.Fork(ctest.Increment,
		inSandbox(shm.Sandbox{Paths: []shm.PathRule{{Path: dir + "/none"}}}))
	assert.ErrorIs(t, err, unix.ENOENT)
	assert.ErrorContains(t, err, dir+"/none")
}

// A file can be a path too, and a child that may only read cannot truncate, on any kernel.
func TestPathOfAFile(t *testing.T) {
	needLandlock(t, 1)
	m := newMapping(t, shm.Shared, page, nil)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o666))
	box := shm.Sandbox{Paths: []shm.PathRule{{Path: file}}}
	assert.Zero(t, openIn(t, m, box, file, unix.O_RDONLY))
	assert.Equal(t, unix.EACCES,
		openIn(t, m, box, filepath.Dir(file), unix.O_RDONLY|unix.O_DIRECTORY))
	dir := unix.AT_FDCWD
	_, err := call(t, m, inSandbox(box), unix.SYS_OPENAT,
		uintptr(dir), path(m, file), unix.O_RDONLY|unix.O_TRUNC)
	denied(t, err, "openat", "truncation")
	assert.Equal(t, "text", string(must(os.ReadFile(file))))
}

// Where the calls themselves are allowed, landlock still denies what they are for.
func TestLandlockIsAnotherWall(t *testing.T) {
	needLandlock(t, 6)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	box := shm.Sandbox{Allow: []uintptr{unix.SYS_OPENAT, unix.SYS_KILL, unix.SYS_PTRACE}}
	assert.Equal(t, unix.EACCES, openIn(t, m, box, "/etc/passwd", unix.O_RDONLY))
	got, err := call(t, m, inSandbox(box), unix.SYS_KILL, uintptr(os.Getpid()), 0)
	assert.NoError(t, err)
	assert.Equal(t, -int(unix.EPERM), got, "a signal to its parent")
	got, err = call(t, m, inSandbox(box), unix.SYS_PTRACE,
		unix.PTRACE_SEIZE, uintptr(os.Getpid()), 0, 0)
	assert.NoError(t, err)
	assert.Equal(t, -int(unix.EPERM), got, "its parent's memory")
}

// Abstract sockets are files of no folder. Landlock keeps a child from them, too.
func TestAbstractSocketsAreOutOfReach(t *testing.T) {
	needLandlock(t, 6)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	listener := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	defer unix.Close(listener)
	name := fmt.Sprintf("\x00shm-test-%d-%p", os.Getpid(), m)
	require.NoError(t, unix.Bind(listener, &unix.SockaddrUnix{Name: name}))
	require.NoError(t, unix.Listen(listener, 1))
	socket := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	defer unix.Close(socket)
	var addr unix.RawSockaddrUnix
	addr.Family = unix.AF_UNIX
	for i := range len(name) {
		addr.Path[i] = int8(name[i])
	}
	*must(shm.At[unix.RawSockaddrUnix](m, 512)) = addr
	cfg := inSandbox(shm.Sandbox{Allow: []uintptr{unix.SYS_CONNECT}})
	cfg.KeepFDs = []int{socket}
	got, err := call(t, m, cfg, unix.SYS_CONNECT,
		uintptr(socket), uintptr(m.Addr())+512, uintptr(2+len(name)))
	assert.NoError(t, err)
	assert.Equal(t, -int(unix.EPERM), got)
}

// A child reads what is read-only for it, and no call makes that writable.
func TestReadOnlyStaysSo(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 3*page, &shm.Config{Technique: shm.Memfd, Reserve: 8 * page})
	fill(m.Bytes()[page:], 1)
	cfg := inSandbox(shm.Sandbox{ReadOnly: []shm.Range{{page, page}}})
	start := uintptr(m.Addr())
	p := forkedWith(t, m, ctest.Add, cfg)
	// It reads. The sum of whole pages has a low byte of 0.
	assert.Equal(t, exited(p, 255), wait(t, p))
	assert.True(t, p.Sandboxed().ReadOnly)

	got, err := call(t, m, cfg, unix.SYS_MPROTECT,
		start+uintptr(page), uintptr(page), unix.PROT_READ|unix.PROT_WRITE)
	assert.NoError(t, err)
	assert.Equal(t, -int(unix.EACCES), got)
	got, err = call(t, m, cfg, unix.SYS_GETRANDOM, start+uintptr(page), 16)
	assert.NoError(t, err)
	assert.Equal(t, -int(unix.EFAULT), got, "the kernel does not write there either")
	got, err = call(t, m, cfg, unix.SYS_GETRANDOM, start+2*uintptr(page), 16)
	assert.NoError(t, err)
	assert.Equal(t, 16, got, "beside it, it does")
	_, err = call(t, m, cfg, unix.SYS_MADVISE, start+uintptr(page), uintptr(page), unix.MADV_REMOVE)
	denied(t, err, "madvise", "a hole")
	p = forkedWith(t, m, ctest.WriteLonger, cfg)
	assert.Equal(t, exited(p, int(unix.ENOMEM)), wait(t, p), "the page before it is not mapped again")
	for _, n := range []uintptr{unix.SYS_MREMAP, unix.SYS_REMAP_FILE_PAGES} {
		allowed := *cfg.Sandbox
		allowed.Allow = []uintptr{n}
		allowed.Optional = true // Allow needs landlock(7)
		_, err = m.Fork(ctest.Add, inSandbox(allowed))
		assert.ErrorIs(t, err, unix.EINVAL)
	}
	err = wait(t, forkedWith(t, m, ctest.WriteAlias, cfg))
	var exit *shm.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, unix.SIGSEGV, exit.Status.Signal(), "%v", err)
	assert.Equal(t, filled(page, 1), m.Bytes()[page:2*page])
	m.Bytes()[page] = 2 // this process still writes
}

func filled(n int, b byte) []byte {
	bytes := make([]byte, n)
	fill(bytes, b)
	return bytes
}

// No child shrinks the object of its mapping: it has no descriptor of it that allows that.
func TestObjectsAreNotTruncated(t *testing.T) {
	needLandlock(t, 1)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 2*page, &shm.Config{Technique: shm.Memfd})
	cfg := inSandbox(shm.Sandbox{Allow: []uintptr{unix.SYS_FTRUNCATE}})
	for fd := 3; fd < 64; fd++ { // not what go test writes to
		got, err := call(t, m, cfg, unix.SYS_FTRUNCATE, uintptr(fd), 0)
		assert.NoError(t, err)
		assert.Equal(t, -int(unix.EBADF), got, fd)
	}
	assert.Equal(t, 2*page, must(m.ObjectLen()))
}

// A child that may open files does not find its mapping's object among its own
// descriptors. Landlock would let it open the object for writing.
func TestObjectsAreNotOpenedAgain(t *testing.T) {
	needLandlock(t, 3)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 2*page, &shm.Config{Technique: shm.Memfd})
	for _, box := range []shm.Sandbox{
		{Paths: []shm.PathRule{{t.TempDir(), shm.PathWrite}}},
		{Paths: []shm.PathRule{{"/proc", shm.PathWrite}}},
		{Allow: []uintptr{unix.SYS_OPENAT}},
		{Allow: []uintptr{unix.SYS_OPENAT}, ReadOnly: []shm.Range{{page, page}}},
	} {
		for fd := 3; fd < 32; fd++ {
			name := fmt.Sprintf("/proc/self/fd/%d", fd)
			assert.Equal(t, unix.ENOENT, openIn(t, m, box, name, unix.O_RDWR), "%+v: %d", box, fd)
		}
	}
}

// What holds is told. Without landlock, or without filters, Fork says so.
func TestSandboxWithoutTheKernelsHelp(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	needFilter(t)
	has := sandboxed(t).Landlock
	m := newMapping(t, shm.Shared, page, nil)
	paths := shm.Sandbox{Paths: []shm.PathRule{{Path: "/"}}}
	onAThreadOfItsOwn(func() {
		deny(t, unix.SYS_LANDLOCK_CREATE_RULESET, unix.ENOSYS)
		p := forkedWith(t, m, ctest.Increment, inSandbox(shm.Sandbox{}))
		assert.NoError(t, wait(t, p))
		// The filter alone denies all files.
		assert.Equal(t, shm.Sandboxed{Filter: true}, p.Sandboxed())
		_, err := m.Fork(ctest.Increment, inSandbox(paths))
		assert.ErrorContains(t, err, "needs version 1 of landlock(7), this kernel has 0 "+
			"(set Optional to go without)")
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		paths.Optional = true
		p = forkedWith(t, m, ctest.Increment, inSandbox(paths))
		assert.NoError(t, wait(t, p))
		assert.Equal(t, shm.Sandboxed{Filter: true}, p.Sandboxed())
	})
	onAThreadOfItsOwn(func() {
		deny(t, unix.SYS_SECCOMP, unix.EINVAL)
		_, err := m.Fork(ctest.Increment, inSandbox(shm.Sandbox{}))
		assert.ErrorContains(t, err, "ForkConfig.Sandbox: seccomp: invalid argument "+
			"(set Optional to go without)")
		p := forkedWith(t, m, ctest.Increment, inSandbox(shm.Sandbox{Optional: true}))
		assert.NoError(t, wait(t, p))
		assert.False(t, p.Sandboxed().Filter)
		assert.Equal(t, has, p.Sandboxed().Landlock)
	})
	assert.Equal(t, 3, getInt(m))
}

// A pool's children have the sandbox, and so have those that replace them.
func TestPoolInASandbox(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 2*page, &shm.Config{Technique: shm.Memfd})
	pool := newPool(t, m, 2, &shm.PoolConfig{RestartRate: 1e6, Fork: *inSandbox(shm.Sandbox{
		ReadOnly: []shm.Range{{page, page}}})})
	for i := range 20 {
		_, err := pool.Call(background, ctest.Increment, 4, 4)
		require.NoError(t, err)
		setInt(m, i)
		_, err = pool.Call(background, ctest.Escape, 0, 4)
		denied(t, err, ctest.Attempts()[i].Call, "in a pool")
		_, err = pool.Call(background, ctest.Increment, page, 4)
		var exit *shm.ExitError
		if assert.ErrorAs(t, err, &exit) {
			assert.Equal(t, unix.SIGSEGV, exit.Status.Signal())
		}
	}
	assert.EqualValues(t, 20, *must(shm.At[int32](m, 4)))
	_, err := pool.Call(background, ctest.Sleep, 0, 5) // longer than a call waits by futex(2)
	assert.NoError(t, err)
	assert.NoError(t, pool.Close())
}

// The children of a fork server have the sandbox, and the server itself does not
// need what they may not do.
func TestForkServerInASandbox(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	m := newMapping(t, shm.Shared, 2*page, &shm.Config{Technique: shm.Memfd})
	s, err := m.ForkServer(&shm.ForkServerConfig{Fork: *inSandbox(shm.Sandbox{
		ReadOnly: []shm.Range{{page, page}}})})
	require.NoError(t, err)
	for i := 0; i < len(ctest.Attempts()); i += 10 {
		setInt(m, i)
		p, err := s.Fork(ctest.Escape)
		require.NoError(t, err)
		assert.True(t, p.Sandboxed().Filter && p.Sandboxed().ReadOnly)
		denied(t, wait(t, p), ctest.Attempts()[i].Call, ctest.Attempts()[i].What)
	}
	assert.NoError(t, s.Call(background, ctest.Compute))
	p, err := s.Fork(ctest.FirstLast)
	require.NoError(t, err)
	var exit *shm.ExitError
	if assert.ErrorAs(t, wait(t, p), &exit) {
		assert.Equal(t, unix.SIGSEGV, exit.Status.Signal(), "the last byte is read-only")
	}
	require.NoError(t, s.Close())
}

// Bytes in, bytes out, and the length of an object are there in a sandbox, too.
func TestDoInASandbox(t *testing.T) {
	needFilter(t)
	leavesNothing(t)
	pool := newPool(t, nil, 1, &shm.PoolConfig{
		Fork: *inSandbox(shm.Sandbox{}), MaxIn: 1 << 20, MaxOut: 1 << 20})
	in := filled(1<<20, 7)
	for range 3 {
		out, err := pool.Do(background, ctest.DoEcho, in)
		require.NoError(t, err)
		assert.Equal(t, in, out)
	}
	m := newMapping(t, shm.Shared, 2*page, &shm.Config{Technique: shm.Memfd})
	if strconv.IntSize == 64 { // else fstat(3) is another call
		require.NoError(t, wait(t, forkedWith(t, m, ctest.Object, inSandbox(shm.Sandbox{}))))
		assert.EqualValues(t, 2*page, *must(shm.At[int64](m, 0)))
	}
}

// All of it works for a user who may do nothing, and in a container.
func TestSandboxAsNobody(t *testing.T) {
	if os.Getuid() == 0 && !strings.HasSuffix(os.Args[0], "nobody.test") {
		runAsNobody(t)
		return
	}
	worksInSandbox(t)
}

func TestSandboxUnderDockersProfile(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	denyAll(t, dockerDenies)
	worksInSandbox(t)
}

func worksInSandbox(t *testing.T) {
	t.Helper()
	needFilter(t)
	m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Memfd})
	assert.NoError(t, wait(t, forkedWith(t, m, ctest.Compute, inSandbox(shm.Sandbox{}))))
	for i, a := range ctest.Attempts() {
		setInt(m, i)
		denied(t, wait(t, forkedWith(t, m, ctest.Escape, inSandbox(shm.Sandbox{}))), a.Call, a.What)
	}
	cfg := inSandbox(shm.Sandbox{ReadOnly: []shm.Range{{0, page}}})
	var exit *shm.ExitError
	if assert.ErrorAs(t, wait(t, forkedWith(t, m, ctest.Increment, cfg)), &exit) {
		assert.Equal(t, unix.SIGSEGV, exit.Status.Signal())
	}
	if sandboxed(t).Landlock > 0 {
		box := shm.Sandbox{Paths: []shm.PathRule{{Path: "/etc/passwd"}}}
		assert.Zero(t, openIn(t, m, box, "/etc/passwd", unix.O_RDONLY))
		assert.Equal(t, unix.EACCES, openIn(t, m, box, must(os.Executable()), unix.O_RDONLY))
	}
}

// runAsNobody runs the test once more, as a user who may do nothing.
func runAsNobody(t *testing.T) {
	t.Helper()
	const nobody = 65534
	// TMPDIR may be where another user cannot reach it.
	dir, err := os.MkdirTemp("/tmp", "shm-nobody-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	program := filepath.Join(dir, "nobody.test")
	require.NoError(t, os.WriteFile(program, must(os.ReadFile("/proc/self/exe")), 0o755))
	cmd := exec.Command(program, "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	if strings.Contains(string(out), "--- SKIP: "+t.Name()) {
		t.Skipf("%s", out)
	}
	assert.Contains(t, string(out), "--- PASS: "+t.Name())
}
