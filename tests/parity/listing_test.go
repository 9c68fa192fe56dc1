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

	"forkshm.example/shm/internal/testenv"
)

// The book's program, in C (csrc/anon_mmap.c) and in Go (cmd/anon_mmap), in either build.

var forkWaitInGo = testenv.GoBuildOnce("./internal/ctest/forkwait", testenv.BuildSetting("-tags"))

type program struct {
	name string
	inC  func(testing.TB) string
	inGo func(testing.TB) string
}

var programs = []program{
	{"MAP_ANONYMOUS", testenv.CompileOnce("anon_mmap-c", "-DUSE_MAP_ANON", "csrc/anon_mmap.c"), testenv.GoBuildOnce("./cmd/anon_mmap", "")},
	{"dev_zero", testenv.CompileOnce("dev_zero-c", "csrc/anon_mmap.c"), testenv.GoBuildOnce("./cmd/anon_mmap", "devzero")},
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
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			inC, inGo := outcomeOf(t, exec.Command(p.inC(t))), outcomeOf(t, exec.Command(p.inGo(t)))
			assert.Equal(t, inC, inGo)
			assert.Equal(t, outcome{"Child started, value = 1\nIn parent, value = 2\n", "", 0}, inGo)

			verbose := outcomeOf(t, exec.Command(p.inGo(t), "-v"))
			assert.Equal(t, inC.stdout, verbose.stdout)
			technique := strings.ReplaceAll(p.name, "dev_zero", "/dev/zero")
			assert.Regexp(t, `^anon_mmap: MAP_SHARED `+technique+`, 4 bytes at 0x[0-9a-f]+\nanon_mmap: child is pid \d+\n$`, verbose.stderr)
		})
	}
}

func TestListingMakesCsSystemCalls(t *testing.T) {
	names := map[string][]string{ // as the book says
		"MAP_ANONYMOUS": {"mmap", "clone", "wait4", "munmap"},
		"dev_zero":      {"openat", "mmap", "close", "clone", "wait4", "munmap"},
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			inC, inGo := systemCalls(t, p.inC(t)), systemCalls(t, p.inGo(t))
			assert.Equal(t, inC, inGo, "expected is C, actual is Go")

			var parent []string
			for _, call := range inGo["parent"] {
				name, _, _ := strings.Cut(call, "(")
				parent = append(parent, name)
			}
			assert.Equal(t, names[p.name], parent)
			assert.Len(t, inGo["child"], 1, "munmap")
		})
	}
}

// A call that fails fails the Go program as it fails the C program, but for the case of letters.
func TestListingFailsAsInC(t *testing.T) {
	strace := testenv.NeedStrace(t)
	for _, p := range programs {
		faults := map[string][]string{
			"fork": {"-e", "inject=clone:error=EAGAIN"}, // threads are made by clone3
			"wait": {"-e", "inject=wait4:error=ECHILD"},
		}
		if p.name == "dev_zero" {
			faults["open"] = []string{"-P", "/dev/zero", "-e", "inject=openat:error=EACCES"}
			faults["mmap"] = []string{"-P", "/dev/zero", "-e", "inject=mmap:error=ENOMEM"}
		}
		for name, fault := range faults {
			t.Run(p.name+"/"+name, func(t *testing.T) {
				run := func(program string) outcome {
					args := append([]string{"-f", "-o", filepath.Join(t.TempDir(), "trace")}, fault...)
					return outcomeOf(t, exec.Command(strace, append(args, program)...))
				}
				inC, inGo := run(p.inC(t)), run(p.inGo(t))
				assert.Equal(t, 1, inC.status)
				assert.Contains(t, inC.stderr, "anon_mmap: "+name)
				inC.stderr = strings.ToLower(inC.stderr)
				assert.Equal(t, inC, inGo, "expected is C, actual is Go")
			})
		}
	}
}

// Where the runtime's poller has no room for a pidfd, Wait polls it itself.
func TestWaitWithoutThePoller(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	out, err := exec.Command(testenv.NeedStrace(t), "-f", "-o", trace, "-e", "trace=epoll_ctl,poll,ppoll,waitid",
		"-e", "inject=epoll_ctl:error=ENOSPC:when=2+", // the first is the poller's own
		forkWaitInGo(t), "locked", "5").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Regexp(t, `poll\(\[\{fd=\d+, events=POLLIN\}\]`, string(must(os.ReadFile(trace))))
}

// A child that cannot be watched is not kept.
func TestForkWithoutAPidfdLeavesNoChild(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	fork := exec.Command(testenv.NeedStrace(t), "-f", "-o", trace, "-e", "trace=pidfd_open,kill,wait4",
		"-e", "inject=pidfd_open:error=EMFILE:when=2", // of a thread; the first is the one before the fork
		forkWaitInGo(t), "locked", "1")
	got := outcomeOf(t, fork)
	assert.Equal(t, 1, got.status)
	assert.Contains(t, got.stderr, "shm: fork 4096 bytes: pidfd_open: too many open files")
	var child string
	for _, c := range traced(t, trace) {
		if c.name == "pidfd_open" && strings.HasSuffix(c.result, "(INJECTED)") {
			child, _, _ = strings.Cut(strings.TrimPrefix(c.text, "pidfd_open("), ",")
		}
		if c.name == "wait4" && child != "" && c.result == child { // killed, had it not ended by itself
			return
		}
	}
	assert.Fail(t, "no child was reaped", "%s", must(os.ReadFile(trace)))
}

var (
	unfinished = regexp.MustCompile(`^(\d+) +(\w+\(.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	finished   = regexp.MustCompile(`^(\d+) +((\w+)\(.*\)) += (.*)$`)
	address    = regexp.MustCompile(`0x[0-9a-f]{6,}`)
)

type call struct{ thread, text, name, result string }

func (c call) forks() bool {
	return strings.HasPrefix(c.name, "clone") && strings.Contains(c.text, "SIGCHLD") || strings.HasSuffix(c.name, "fork")
}

// traced returns the calls of a trace in the order of their ends, those put together again that
// others interrupted.
func traced(t *testing.T, file string) (all []call) {
	trace, err := os.ReadFile(file)
	require.NoError(t, err)
	begun := map[string]string{} // by thread
	for line := range strings.Lines(string(trace)) {
		line = strings.TrimSpace(line)
		if m := unfinished.FindStringSubmatch(line); m != nil {
			begun[m[1]] = m[2]
			continue
		}
		if m := resumed.FindStringSubmatch(line); m != nil {
			line = m[1] + " " + begun[m[1]] + m[2]
		}
		// What a signal of the runtime's interrupted, and the kernel begins again, is one call.
		if m := finished.FindStringSubmatch(line); m != nil && !strings.HasPrefix(m[4], "? ERESTART") {
			all = append(all, call{m[1], m[2], m[3], m[4]})
		}
	}
	return all
}

// systemCalls runs a program under strace and returns the system calls by which parent and child
// map, share and wait, in order. What differs from run to run has a name put for it.
func systemCalls(t *testing.T, program string) map[string][]string {
	file := filepath.Join(t.TempDir(), "trace")
	out, err := exec.Command(testenv.NeedStrace(t), "-f", "-o", file, "-e", "signal=none",
		"-e", "trace=mmap,munmap,openat,close,clone,clone3,fork,vfork,wait4,waitid", program).CombinedOutput()
	require.NoError(t, err, "%s", out)
	all := traced(t, file)
	var region, fd, child string // a child's first calls may stand before the end of the fork that made it
	for _, c := range all {
		switch {
		case c.forks():
			child = c.result
		case c.name == "mmap" && strings.HasPrefix(c.text, "mmap(NULL, 4,"):
			region = c.result
		}
	}
	require.NotEmpty(t, region, "it maps")
	require.NotEmpty(t, child, "it forks")

	calls := map[string][]string{}
	for _, c := range all {
		switch {
		case c.forks(), c.name == "wait4", c.name == "waitid":
		case c.name == "mmap" && c.result == region:
		case c.name == "munmap" && strings.HasPrefix(c.text, "munmap("+region+","):
		case c.name == "openat" && strings.Contains(c.text, `"/dev/zero"`):
			fd = c.result
		case c.name == "close" && c.text == "close("+fd+")":
		default:
			continue
		}
		text := strings.NewReplacer(region, "REGION", child, "PID").Replace(c.text + " = " + c.result)
		if fd != "" {
			text = regexp.MustCompile(`(\(|, |= )`+fd+`\b`).ReplaceAllString(text, "${1}FD")
		}
		if c.name == "close" {
			fd = ""
		}
		who := "parent"
		if c.thread == child {
			who = "child"
		}
		calls[who] = append(calls[who], address.ReplaceAllString(text, "ADDR"))
	}
	return calls
}
