//go:build linux

package seccomp

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/testenv"
)

const (
	trap     = unix.SECCOMP_RET_TRAP
	ownPid   = 4711
	otherPid = 4712
)

// decider returns what a policy's filter does with a call of the same architecture.
func decider(t *testing.T, p Policy) func(name string, args ...uint64) uint32 {
	t.Helper()
	program := programOf(t, p)
	return func(name string, args ...uint64) uint32 {
		t.Helper()
		number, found := arches[p.Arch].calls().numbers[name]
		require.True(t, found, name)
		d := data{number: number, arch: arches[p.Arch].audit}
		copy(d.args[:], args)
		action, _ := run(program, d)
		return action
	}
}

func programOf(t *testing.T, p Policy) []unix.SockFilter {
	t.Helper()
	f, err := p.Filter()
	require.NoError(t, err)
	for _, i := range f.Self {
		f.Instructions[i].K = ownPid
	}
	return f.Instructions
}

func errno(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

func TestComputeOnEachArchitecture(t *testing.T) {
	for goarch, a := range arches {
		decide := decider(t, Policy{Arch: goarch, Compute: true, Denied: trap})
		mmap := a.mmap()
		const rw, rx = unix.PROT_READ | unix.PROT_WRITE, unix.PROT_READ | unix.PROT_EXEC
		for _, c := range []struct {
			want uint32
			name string
			args []uint64
		}{
			{allow, "read", nil},
			{allow, "exit_group", nil},
			{allow, mmap, []uint64{0, 4096, rw, privateMemory}},
			{allow, mmap, []uint64{0, 4096, unix.PROT_NONE, privateMemory | unix.MAP_NORESERVE}},
			{trap, mmap, []uint64{0, 4096, rx, privateMemory}},
			{trap, mmap, []uint64{0, 4096, rw, unix.MAP_SHARED | unix.MAP_ANONYMOUS}},
			{trap, mmap, []uint64{0, 4096, rw, unix.MAP_PRIVATE}},
			{trap, mmap, []uint64{0, 4096, rw, unix.MAP_SHARED_VALIDATE | unix.MAP_ANONYMOUS}},
			{trap, mmap, []uint64{0, 4096, rw, privateMemory | unix.MAP_HUGETLB}},
			{allow, "mprotect", []uint64{0, 4096, rw}},
			{trap, "mprotect", []uint64{0, 4096, rx}},
			{trap, "mprotect", []uint64{0, 4096, 1<<32 | rx}},
			{trap, "pkey_mprotect", []uint64{0, 4096, rw}},
			{allow, "madvise", []uint64{0, 4096, unix.MADV_DONTNEED}},
			{trap, "madvise", []uint64{0, 4096, unix.MADV_HWPOISON}},
			{allow, "tgkill", []uint64{ownPid, ownPid, 6}},
			{trap, "tgkill", []uint64{otherPid, otherPid, 6}},
			{trap, "kill", []uint64{0, 9}},
			{trap, "kill", []uint64{uint64(uint32(0xffffffff)), 9}},
			{allow, "tkill", []uint64{ownPid, 6}}, // by musl
			{trap, "tkill", []uint64{otherPid, 6}},
			{allow, "futex", []uint64{0, 128 | 9}},
			{trap, "futex", []uint64{0, 6}}, // FUTEX_LOCK_PI
			{allow, "sendto", []uint64{3, 0, 1, unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL, 0}},
			{trap, "sendto", []uint64{3, 0, 1, unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL, 4096}},
			{trap, "sendto", []uint64{3, 0, 1, unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL, 1 << 32}},
			{trap, "sendto", []uint64{3, 0, 1, 0, 0}},
			{errno(unix.ENOSYS), "clone3", nil},
			{trap, "clone", nil},
			{trap, "openat", nil},
			{errno(unix.EACCES), "statx", []uint64{1, 0, unix.AT_EMPTY_PATH}},
			{trap, "statx", nil},
			{errno(unix.ENOTTY), "ioctl", []uint64{1, unix.TCGETS}},
			{trap, "ioctl", []uint64{1, unix.TIOCSTI}},
			{allow, "fcntl", []uint64{1, unix.F_GETFL}},
			{trap, "fcntl", []uint64{1, unix.F_SETFL}},
			{allow, "prlimit64", []uint64{0, unix.RLIMIT_STACK, 0, 4096}},
			{trap, "prlimit64", []uint64{0, unix.RLIMIT_STACK, 4096}},
			{trap, "prlimit64", []uint64{0, unix.RLIMIT_STACK, 1 << 32}},
			{trap, "prlimit64", []uint64{otherPid, unix.RLIMIT_STACK, 0}},
			{allow, "clock_gettime", []uint64{unix.CLOCK_MONOTONIC}},
			{trap, "clock_gettime", []uint64{uint64(uint32(0xfffffff6))}},
			{trap, "prctl", nil},
			{trap, "seccomp", nil},
			{trap, "ptrace", nil},
		} {
			assert.Equal(t, c.want, decide(c.name, c.args...), "%s: %s%#x", goarch, c.name, c.args)
		}
	}
}

// What no rule names is denied, and so is each call of another ABI, whatever its number and
// arguments are.
func TestAllElseIsDenied(t *testing.T) {
	for goarch, a := range arches {
		p := Policy{Arch: goarch, Compute: true, Files: WriteFiles, Denied: trap}
		program := programOf(t, p)
		most := 0
		for n := range uint32(1000) {
			action, steps := run(program, data{number: n, arch: a.audit})
			most = max(most, steps)
			if _, known := a.calls().names[n]; !known {
				assert.Equal(t, uint32(trap), action, "%s: %d", goarch, n)
			}
			action, _ = run(program, data{number: n | x32, arch: a.audit})
			assert.Equal(t, uint32(trap), action, "%s: x32 %d", goarch, n)
			for _, other := range arches {
				if other != a {
					action, _ = run(program, data{number: n, arch: other.audit})
					assert.Equal(t, uint32(trap), action, "%s: %d of %#x", goarch, n, other.audit)
				}
			}
		}
		for _, n := range []uint32{1 << 31, 0xffffffff} {
			action, _ := run(program, data{number: n, arch: a.audit})
			assert.Equal(t, uint32(trap), action)
		}
		assert.Less(t, most, 30, "%s: instructions for a call", goarch)
		assert.Less(t, len(program), MaxInstructions, goarch)
	}
}

func TestCustomAllowsTheEndAlone(t *testing.T) {
	getppid := uintptr(arches["amd64"].calls().numbers["getppid"])
	p := Policy{Arch: "amd64", Allow: []uintptr{getppid}, Denied: unix.SECCOMP_RET_KILL_PROCESS}
	program := programOf(t, p)
	var allowed []string
	for n := range uint32(1000) {
		action, _ := run(program, data{number: n, arch: unix.AUDIT_ARCH_X86_64})
		if action == allow {
			allowed = append(allowed, Name("amd64", unix.AUDIT_ARCH_X86_64, n))
		}
	}
	assert.Equal(t, []string{"munmap", "rt_sigreturn", "getpid", "exit", "getppid", "gettid",
		"futex", "restart_syscall", "exit_group"}, allowed)
}

func TestFilesOpenForReadingAlone(t *testing.T) {
	decide := decider(t, Policy{Arch: "arm64", Compute: true, Files: ReadFiles, Denied: trap})
	assert.EqualValues(t, allow, decide("openat", 3, 0, unix.O_RDONLY|unix.O_CLOEXEC))
	assert.EqualValues(t, trap, decide("openat", 3, 0, unix.O_WRONLY))
	assert.EqualValues(t, trap, decide("openat", 3, 0, unix.O_RDONLY|unix.O_TRUNC))
	assert.EqualValues(t, errno(unix.ENOSYS), decide("openat2"))
	assert.EqualValues(t, allow, decide("mmap", 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE))
	assert.EqualValues(t, trap, decide("mmap", 0, 4096, unix.PROT_READ, unix.MAP_SHARED))
	assert.EqualValues(t, trap, decide("unlinkat"))
	decide = decider(t, Policy{Arch: "arm64", Compute: true, Files: WriteFiles, Denied: trap})
	assert.EqualValues(t, allow, decide("openat", 3, 0, unix.O_RDWR|unix.O_CREAT))
	assert.EqualValues(t, allow, decide("unlinkat"))
	assert.EqualValues(t, trap, decide("linkat"))
}

func TestAllowedThreadsMakeNoNamespaces(t *testing.T) {
	for goarch, a := range arches {
		clone := []uintptr{uintptr(a.calls().numbers["clone"])}
		decide := decider(t, Policy{Arch: goarch, Compute: true, Allow: clone, Denied: trap})
		const thread = unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND
		assert.EqualValues(t, allow, decide("clone", thread))
		assert.EqualValues(t, trap, decide("clone", unix.CLONE_NEWUSER))
		assert.EqualValues(t, trap, decide("clone", unix.CLONE_PARENT|uint64(unix.SIGCHLD)))
	}
}

func TestPolicyRefuses(t *testing.T) {
	_, err := Policy{Arch: "s390x"}.Filter()
	assert.EqualError(t, err, "there is no seccomp(2) filter for s390x: function not implemented")
	_, err = Policy{Arch: "amd64", Allow: []uintptr{1, x32}}.Filter()
	assert.EqualError(t, err,
		"no system call has the number 1073741824 of Allow[1]: invalid argument")
}

// Each name of a policy is a system call on some architecture.
func TestPoliciesNameCallsThatExist(t *testing.T) {
	for _, rules := range []map[string]rule{end, compute, readFiles, writeFiles} {
		seen := map[string]bool{}
		for names := range rules {
			for _, name := range strings.Fields(names) {
				known := false
				for _, a := range arches {
					_, found := a.calls().numbers[name]
					known = known || found
				}
				assert.True(t, known, name)
				assert.False(t, seen[name], "%s has two rules", name)
				seen[name] = true
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		goarch        string
		audit, number uint32
		want          string
	}{
		{"amd64", unix.AUDIT_ARCH_X86_64, 257, "openat"},
		{"amd64", unix.AUDIT_ARCH_X86_64, x32 | 2, "open (x32)"},
		{"amd64", unix.AUDIT_ARCH_X86_64, 0xffffffff, "-1"},
		{"amd64", unix.AUDIT_ARCH_X86_64, 9999, "9999"},
		{"amd64", unix.AUDIT_ARCH_I386, 5, "open (386)"},
		{"386", unix.AUDIT_ARCH_I386, 5, "open"},
		{"386", unix.AUDIT_ARCH_X86_64, 2, "open (amd64)"},
		{"amd64", 1, 2, "2 (architecture 0x1)"},
	} {
		assert.Equal(t, c.want, Name(c.goarch, c.audit, c.number))
	}
	for number, name := range map[uint32]string{
		unix.SYS_READ: "read", unix.SYS_OPENAT: "openat", unix.SYS_FUTEX: "futex",
		unix.SYS_TGKILL: "tgkill",
		unix.SYS_CLONE3: "clone3", unix.SYS_PRLIMIT64: "prlimit64", unix.SYS_SENDTO: "sendto",
		unix.SYS_MADVISE:                "madvise",
		unix.SYS_LANDLOCK_RESTRICT_SELF: "landlock_restrict_self", unix.SYS_SECCOMP: "seccomp",
	} {
		assert.Equal(t, name, Name(runtime.GOARCH, arches[runtime.GOARCH].audit, number))
	}
}

var update = flag.Bool("update", false, "write the numbers of package unix to the files")

// The numbers are those of package unix, in the version that this module uses.
func TestCallsAreThoseOfUnix(t *testing.T) {
	testenv.NeedTime(t)
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil || strings.TrimSpace(string(out)) == "" {
		t.Skip("the source of golang.org/x/sys is not here")
	}
	line := regexp.MustCompile(`(?m)^\tSYS_([A-Z0-9_]+)\s+= (\d+)$`)
	for goarch, a := range arches {
		name := "unix/zsysnum_linux_" + goarch + ".go"
		source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), name))
		require.NoError(t, err)
		var text strings.Builder
		for _, m := range line.FindAllStringSubmatch(string(source), -1) {
			if m[1] != "SYSCALL_MASK" {
				fmt.Fprintf(&text, "%s %s\n", m[2], strings.ToLower(m[1]))
			}
		}
		file := goarch + ".txt"
		if *update {
			require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, string(want), text.String(), goarch)
		assert.NotEmpty(t, a.calls().names)
	}
}
