//go:build linux && cgo

package parity_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm/internal/strace"
	"forkshm.example/shm/internal/testenv"
	"forkshm.example/shm/parity"
)

// The book's program, in C (csrc/anon_mmap.c) and in Go (cmd/anon_mmap), in either build.

var forkWaitInGo = testenv.GoBuildOnce("./internal/ctest/forkwait", testenv.BuildSetting("-tags"))

type program struct {
	name string
	inC  func(testing.TB) string
	inGo func(testing.TB) string
}

var programs = []program{
	{"MAP_ANONYMOUS", testenv.CompileOnce("anon_mmap-c", "-DUSE_MAP_ANON", "csrc/anon_mmap.c"),
		testenv.GoBuildOnce("./cmd/anon_mmap", "")},
	{"dev_zero", testenv.CompileOnce("dev_zero-c", "csrc/anon_mmap.c"),
		testenv.GoBuildOnce("./cmd/anon_mmap", "devzero")},
}

// outcome is what a program printed and how it ended.
type outcome struct {
	stdout, stderr string
	status         int
}

func outcomeOf(t *testing.T, cmd *exec.Cmd) outcome {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func TestListingPrintsWhatCDoes(t *testing.T) {
	testenv.NeedTime(t)
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			inC, inGo := outcomeOf(t, exec.Command(p.inC(t))), outcomeOf(t, exec.Command(p.inGo(t)))
			assert.Equal(t, inC, inGo)
			assert.Equal(t, outcome{"Child started, value = 1\nIn parent, value = 2\n", "", 0},
				inGo)

			verbose := outcomeOf(t, exec.Command(p.inGo(t), "-v"))
			assert.Equal(t, inC.stdout, verbose.stdout)
			technique := strings.ReplaceAll(p.name, "dev_zero", "/dev/zero")
			assert.Regexp(t, `^anon_mmap: MAP_SHARED `+technique+
				`, 4 bytes at 0x[0-9a-f]+\nanon_mmap: child is pid \d+\n$`, verbose.stderr)
		})
	}
}

func TestListingMakesCsSystemCalls(t *testing.T) {
	testenv.NeedTime(t)
	names := map[string][]string{ // as the book says
		"MAP_ANONYMOUS": {"0: mmap", "0: fork", "0: wait4", "0: munmap", "0.1: munmap"},
		"dev_zero": {"0: open", "0: mmap", "0: close", "0: fork", "0: wait4", "0: munmap",
			"0.1: munmap"},
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			inC, inGo := parity.Program{Path: p.inC(t), Name: "C"},
				parity.Program{Path: p.inGo(t), Name: "Go"}
			parity.SameSyscalls(t, inC, inGo)
			parity.SameMaps(t, inC, inGo)

			var calls []string
			for _, call := range parity.Syscalls(t, inGo) {
				process, name, _ := strings.Cut(strings.TrimPrefix(call, "process "), ": ")
				name, _, _ = strings.Cut(name, "(")
				calls = append(calls, process+": "+plainName(name))
			}
			assert.Equal(t, names[p.name], calls)
		})
	}
}

// plainName returns the book's name of a call that the C library makes by
// another: glibc forks by clone, musl by fork.
func plainName(name string) string {
	switch name {
	case "clone":
		return "fork"
	case "openat":
		return "open"
	}
	return name
}

// forkCall returns the name of the system call by which the C library forks. It
// makes threads by another: glibc by clone3, musl by clone.
func forkCall(t *testing.T, program string) string {
	for _, call := range parity.Syscalls(t, parity.Program{Path: program, Name: "C"}) {
		_, name, _ := strings.Cut(call, ": ")
		if name, _, _ = strings.Cut(name, "("); plainName(name) == "fork" {
			return name
		}
	}
	require.Fail(t, "the program does not fork")
	return ""
}

// withoutErrno leaves the words for an errno value out of a message. Each C
// library has its own.
func withoutErrno(message string) string {
	return regexp.MustCompile(`(?m)^(\w+: \w+): .*$`).ReplaceAllString(message, "$1")
}

// If a call fails, the Go program fails as the C program does. The words for
// the errno value are not compared: each C library has its own.
func TestListingFailsAsInC(t *testing.T) {
	testenv.NeedTime(t)
	command := testenv.NeedStrace(t)
	for _, p := range programs {
		faults := map[string][]string{
			"fork": {"-e", "inject=" + forkCall(t, p.inC(t)) + ":error=EAGAIN"},
			"wait": {"-e", "inject=wait4:error=ECHILD"},
		}
		if p.name == "dev_zero" {
			faults["open"] = []string{"-P", "/dev/zero", "-e", "inject=?open,openat:error=EACCES"}
			faults["mmap"] = []string{"-P", "/dev/zero", "-e", "inject=mmap:error=ENOMEM"}
		}
		for name, fault := range faults {
			t.Run(p.name+"/"+name, func(t *testing.T) {
				run := func(program string) outcome {
					args := append([]string{"-f", "-o", filepath.Join(t.TempDir(), "trace")},
						fault...)
					return outcomeOf(t, exec.Command(command, append(args, program)...))
				}
				inC, inGo := run(p.inC(t)), run(p.inGo(t))
				assert.Equal(t, 1, inC.status)
				assert.Contains(t, inC.stderr, "anon_mmap: "+name)
				inC.stderr, inGo.stderr = withoutErrno(inC.stderr), withoutErrno(inGo.stderr)
				assert.Equal(t, inC, inGo, "expected is C, actual is Go")
			})
		}
	}
}

// If the runtime's poller has no room for a pidfd, Wait polls the pidfd.
func TestWaitWithoutThePoller(t *testing.T) {
	testenv.NeedTime(t)
	trace := filepath.Join(t.TempDir(), "trace")
	out, err := exec.Command(testenv.NeedStrace(t), "-f", "-o", trace, "-e",
		"trace=epoll_ctl,poll,ppoll,waitid",
		"-e", "inject=epoll_ctl:error=ENOSPC:when=2+", // the first is the poller's own
		forkWaitInGo(t), "locked", "5").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Regexp(t, `poll\(\[\{fd=\d+, events=POLLIN\}\]`, string(must(os.ReadFile(trace))))
}

// A child whose end cannot be waited for is killed.
func TestForkWithoutAPidfdLeavesNoChild(t *testing.T) {
	testenv.NeedTime(t)
	trace := filepath.Join(t.TempDir(), "trace")
	fork := exec.Command(testenv.NeedStrace(t), "-f", "-o", trace, "-e",
		"trace=pidfd_open,kill,wait4",
		// strace counts calls by thread. The first pidfd_open is the one before the fork.
		"-e", "inject=pidfd_open:error=EMFILE:when=2",
		forkWaitInGo(t), "locked", "1")
	got := outcomeOf(t, fork)
	assert.Equal(t, 1, got.status)
	assert.Contains(t, got.stderr, "shm: fork 4096 bytes: pidfd_open: too many open files")
	var child string
	for _, c := range strace.Read(string(must(os.ReadFile(trace)))) {
		if c.Name == "pidfd_open" && strings.HasSuffix(c.Result, "(INJECTED)") {
			child, _, _ = strings.Cut(strings.TrimPrefix(c.Text, "pidfd_open("), ",")
		}
		if c.Name == "wait4" && child != "" && c.Result == child {
			// killed, had it not ended by itself
			return
		}
	}
	assert.Fail(t, "no child was reaped", "%s", must(os.ReadFile(trace)))
}
