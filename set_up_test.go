//go:build linux && cgo

package shm_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// What a child starts with, and what Fork refuses.

func TestForkRefusesWhatItCannotDo(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	const closed = math.MaxInt32 // no process has so many
	type refusal struct {
		cfg   shm.ForkConfig
		errno unix.Errno
		text  string
	}
	refusals := []refusal{
		{shm.ForkConfig{KeepFDs: []int{0}}, unix.EINVAL,
			"ForkConfig.KeepFDs has 1 descriptors, but CloseFDs is not set: invalid argument"},
		{shm.ForkConfig{CloseFDs: true, KeepFDs: []int{closed}}, unix.EBADF,
			"ForkConfig.KeepFDs: descriptor 2147483647 is not open: bad file descriptor"},
		{shm.ForkConfig{Limits: []shm.Limit{{Resource: unix.RLIMIT_CORE},
			{Resource: unix.RLIMIT_CPU, Rlimit: unix.Rlimit{Cur: 2, Max: 1}}}}, unix.EINVAL,
			"ForkConfig.Limits[1] (RLIMIT_CPU, soft 2, hard 1): setrlimit: invalid argument"},
	}
	if beyond := closed; strconv.IntSize > 32 { // an int of Go's holds more than C's
		beyond++
		refusals = append(refusals,
			refusal{shm.ForkConfig{Nice: beyond}, unix.EINVAL,
				"ForkConfig.Nice is 2147483648, out of the range of a C int: invalid argument"},
			refusal{shm.ForkConfig{Limits: []shm.Limit{{Resource: beyond}}}, unix.EINVAL,
				"ForkConfig.Limits[0] (resource 2147483648, soft 0, hard 0): setrlimit(2) knows " +
					"no such resource: invalid argument"})
	}
	for _, c := range refusals {
		for _, kill := range []bool{false, true} {
			c.cfg.KillWithParent = kill
			_, err := m.Fork(ctest.Increment, &c.cfg)
			assert.EqualError(t, err, fmt.Sprintf("shm: fork %d bytes: %s", page, c.text))
			assert.ErrorIs(t, err, c.errno)
			_, err = shm.NewPool(m, 1, &shm.PoolConfig{Fork: c.cfg, InheritFDs: !c.cfg.CloseFDs})
			assert.ErrorIs(t, err, c.errno)
		}
	}
	assert.Zero(t, getInt(m), "no child ran")
}

// What a child's function returns is its exit status, as far as that goes, and
// never success by chance.
func TestOnlyZeroIsSuccess(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for returned, status := range map[int]int{1: 1, 255: 255, -1: 255, 256: 255, 257: 1, -256: 255,
		1 << 16: 255, math.MinInt32: 255} {
		setInt(m, returned)
		for _, kill := range []bool{false, true} {
			p := forkedWith(t, m, ctest.Status, &shm.ForkConfig{KillWithParent: kill})
			assert.Equal(t, exited(p, status), wait(t, p), "%d", returned)
		}
	}
}

func oomScoreAdj(pid int) string {
	score, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	return strings.TrimSpace(string(score))
}

func TestTheOOMKillerTakesTheChildFirst(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	own := oomScoreAdj(os.Getpid())
	for _, cfg := range []shm.ForkConfig{{}, {KillWithParent: true}, {CloseFDs: true},
		{NoOOMScore: true}} {
		setInt(m, 0)
		p := forkedWith(t, m, ctest.Family, &cfg) // it writes once it runs
		require.True(t, eventually(func() bool { return getInt(m) != 0 }))
		want := "1000"
		if cfg.NoOOMScore {
			want = own
		}
		assert.Equal(t, want, oomScoreAdj(p.Pid()))
		assert.Equal(t, want, oomScoreAdj(getInt(m)), "what it forks has it too")
		assert.NoError(t, unix.Kill(getInt(m), unix.SIGKILL))
		assert.NoError(t, p.Kill())
		assert.Equal(t, killed(p, unix.SIGKILL), wait(t, p))
	}
	assert.Equal(t, own, oomScoreAdj(os.Getpid()))
}

// Go raises the soft limit of descriptors for itself. Children get the
// program's own, unless it sets another.
func TestChildHasTheProgramsLimitOfDescriptors(t *testing.T) {
	const env = "SHM_TEST_SOFT_LIMIT"
	if os.Getenv(env) == "" {
		cmd := exec.Command("/bin/sh", "-c", `ulimit -Sn 123 && exec "$0" "$@"`,
			must(os.Executable()), "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
		cmd.Env = append(os.Environ(), env+"=123")
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "--- PASS: "+t.Name())
		return
	}
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	soft := func(cfg *shm.ForkConfig) int {
		t.Helper()
		require.NoError(t, wait(t, forkedWith(t, m, ctest.Limits, cfg)))
		return must(shm.Slice[int](m, 0, 3))[0]
	}
	var own unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &own))
	require.Greater(t, own.Cur, uint64(123), "Go has raised it")
	assert.Equal(t, 123, soft(nil))
	assert.Equal(t, 123, soft(&shm.ForkConfig{KillWithParent: true}))
	assert.Equal(t, 99,
		soft(&shm.ForkConfig{Limits: []shm.Limit{{Resource: unix.RLIMIT_NOFILE,
			Rlimit: unix.Rlimit{Cur: 99, Max: own.Max}}}}))
	require.NoError(t,
		syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: own.Cur - 1, Max: own.Max}))
	assert.Equal(t, int(own.Cur-1), soft(nil), "the program has set it")
}

// deny has the kernel refuse a system call to this thread from now on, as a
// container's filter does.
func deny(t *testing.T, number uint32, errno unix.Errno) {
	t.Helper()
	setFilter(t, number, errno, 0)
}

// setFilter is deny, with flags of seccomp(2).
func setFilter(t *testing.T, number uint32, errno unix.Errno, flags uintptr) {
	t.Helper()
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
	)
	filter := []unix.SockFilter{
		{Code: load}, // the number of the system call
		{Code: equal, K: number, Jf: 1},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, failed := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags,
		uintptr(unsafe.Pointer(&program)))
	require.Zero(t, failed, "seccomp")
}

func TestCloseFDsWithoutCloseRange(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	cfg := &shm.ForkConfig{CloseFDs: true, KeepFDs: keptFDs}
	standard := must(unix.Dup(0)) // there is one to close
	defer unix.Close(standard)
	want := wait(t, forkedWith(t, m, ctest.Open, cfg)).(*shm.ExitError).Status
	for errno, next := range map[unix.Errno]uint32{unix.EPERM: unix.SYS_GETDENTS64,
		unix.ENOSYS: unix.SYS_OPENAT} {
		onAThreadOfItsOwn(func() {
			deny(t, unix.SYS_CLOSE_RANGE, errno)
			p := forkedWith(t, m, ctest.Open, cfg)
			assert.Equal(t, &shm.ExitError{Pid: p.Pid(), Status: want}, wait(t, p),
				"by /proc/self/fd")
			deny(t, next, unix.EACCES)
			p = forkedWith(t, m, ctest.Open, cfg)
			assert.Equal(t, &shm.ExitError{Pid: p.Pid(), Status: want}, wait(t, p), "one by one")
		})
	}
}
