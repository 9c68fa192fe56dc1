//go:build linux && cgo

package shm_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// What the library does where the system calls and the files of a usual machine are missing.

// dockerDenies are calls that Docker's default seccomp profile answers with
// EPERM, and that Go, the C library or this one could think of.
var dockerDenies = []uint32{
	unix.SYS_ADD_KEY, unix.SYS_BPF, unix.SYS_GET_MEMPOLICY, unix.SYS_IO_URING_SETUP, unix.SYS_KCMP,
	unix.SYS_KEYCTL,
	unix.SYS_MBIND, unix.SYS_MOUNT, unix.SYS_MOVE_PAGES, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_PERF_EVENT_OPEN,
	unix.SYS_PERSONALITY, unix.SYS_PIVOT_ROOT, unix.SYS_QUOTACTL, unix.SYS_REQUEST_KEY,
	unix.SYS_SET_MEMPOLICY,
	unix.SYS_SETNS, unix.SYS_SYSLOG, unix.SYS_UMOUNT2, unix.SYS_UNSHARE, unix.SYS_USERFAULTFD,
}

// oldDockerDenies are those that profiles of before 2020 do not know, for which
// EPERM is the answer too.
var oldDockerDenies = []uint32{unix.SYS_PIDFD_OPEN, unix.SYS_CLOSE_RANGE, unix.SYS_OPENAT2,
	unix.SYS_FACCESSAT2}

// denyAll has calls fail, on all threads: the given ones with EPERM, and clone3
// with ENOSYS, from which the C library goes back to clone.
func denyAll(t *testing.T, calls []uint32) {
	t.Helper()
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
	)
	filter := []unix.SockFilter{
		{Code: load}, // the number of the system call
		{Code: equal, K: unix.SYS_CLONE3, Jf: 1},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
	}
	for _, call := range calls {
		filter = append(filter,
			unix.SockFilter{Code: equal, K: call, Jf: 1},
			unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	}
	filter = append(filter, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	require.Zero(t, errno, "seccomp")
}

// worksAlike forks in all ways, maps in all ways, and has a pool.
func worksAlike(t *testing.T, techniques ...shm.Technique) {
	t.Helper()
	for _, technique := range techniques {
		m := newMapping(t, shm.Shared, page,
			&shm.Config{Technique: technique, Name: "alike", Guard: true})
		for name, cfg := range setUps {
			assert.NoError(t, shm.Call(background, ctest.Increment, m, cfg), "%v, %s", technique,
				name)
		}
		assert.Equal(t, len(setUps), getInt(m))
		pool, err := shm.NewPool(m, 2, nil)
		require.NoError(t, err, technique)
		for range 4 {
			_, err := pool.Call(background, ctest.Increment, 0, 4)
			assert.NoError(t, err, technique)
		}
		assert.NoError(t, pool.Close())
		assert.Equal(t, len(setUps)+4, getInt(m))
	}
	private := newMapping(t, shm.Private, 4*page, &shm.Config{Technique: shm.Anonymous})
	want := pattern(private)
	require.NoError(t, private.Resize(64*page, shm.MayMove))
	taken, err := private.Detach()
	require.NoError(t, err)
	assert.Equal(t, want, taken.Bytes()[:4*page])
	assert.NoError(t, taken.Close())
	assert.Equal(t, unix.SIGSEGV, crashOf(t, 1, nil).Status.Signal())
}

func TestUnderDockersProfile(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	denyAll(t, dockerDenies)
	_, _, errno := unix.Syscall(unix.SYS_UNSHARE, 0, 0, 0)
	require.Equal(t, unix.EPERM, errno, "the filter is there")
	worksAlike(t, shm.Anonymous, shm.DevZero, shm.Memfd)
	m := newMapping(t, shm.Private, 4*page, nil)
	pattern(m)
	assert.Equal(t, 4*page, must(m.Stats()).Resident)
}

// A profile that knows no pidfds makes no difference either.
func TestUnderAnOldProfile(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	denyAll(t, append(oldDockerDenies, dockerDenies...))
	_, err := unix.PidfdOpen(os.Getpid(), 0)
	require.Equal(t, unix.EPERM, err, "the filter is there")
	leavesNothing(t)
	worksAlike(t, shm.Anonymous, shm.DevZero, shm.Memfd)
}

// Without /proc there are no figures to tell, and no names for a crash's place.
// All else is as ever.
func TestWithoutProc(t *testing.T) {
	if !inOwnProcess(t, nil) || os.Getuid() != 0 {
		return
	}
	root := must(unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
	defer unix.Close(root)
	dir := t.TempDir()
	require.NoError(t, unix.Chroot(dir))
	defer func() {
		assert.NoError(t, unix.Fchdir(root))
		assert.NoError(t, unix.Chroot("."))
	}()
	worksAlike(t, shm.Anonymous, shm.Memfd)
	m := newMapping(t, shm.Private, 4*page, &shm.Config{Technique: shm.Anonymous})
	_, err := m.Stats()
	assert.True(t, errors.Is(err, fs.ErrNotExist), "%v", err)
}
