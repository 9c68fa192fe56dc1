//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A run that is under way when the time is over may take so long to end.
const rest = time.Minute

// suite is the tests of a package, built in one way.
type suite struct {
	name    string
	pkg     string
	live    bool     // built by livego
	flags   []string // of the build
	args    []string // of the program
	program string
	dir     string

	tests, todo []string
}

func all() []*suite {
	race, devzero := []string{"-race"}, []string{"-tags", "devzero"}
	return []*suite{
		{name: "shm", pkg: "."},
		{name: "shm devzero", pkg: ".", flags: devzero},
		{name: "shm race", pkg: ".", flags: race},
		{name: "live", pkg: "./live", live: true, flags: []string{"-tags", "livego"},
			args: []string{"-forks=20"}},
		{name: "live race", pkg: "./live", live: true, flags: []string{"-tags", "livego", "-race"},
			args: []string{"-forks=10"}},
		{name: "shared", pkg: "./shared"},
		{name: "shared race", pkg: "./shared", flags: race},
		{name: "parity", pkg: "./tests/parity"},
		{name: "kv", pkg: "./examples/kv", live: true},
		{name: "parser", pkg: "./examples/parser"},
		{name: "malloc", pkg: "./examples/malloc"},
	}
}

// build builds livego and all suites.
func build(ctx context.Context, scratch string) ([]*suite, error) {
	livego := filepath.Join(scratch, "livego")
	if err := command(ctx, scratch, "go", "build", "-o", livego, "./cmd/livego"); err != nil {
		return nil, err
	}
	suites := all()
	for i, s := range suites {
		tool := "go"
		if s.live {
			tool = livego
		}
		s.program = filepath.Join(scratch, fmt.Sprint("suite", i))
		s.dir = s.pkg
		args := append(append([]string{"test", "-c", "-o", s.program}, s.flags...), s.pkg)
		if err := command(ctx, scratch, tool, args...); err != nil {
			return nil, err
		}
		list := exec.CommandContext(ctx, s.program, "-test.list=^(Test|Example)")
		list.Dir = s.dir
		out, err := list.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		s.tests = strings.Fields(string(out))
	}
	return suites, nil
}

// command runs a build, whose temporary files are in scratch too.
func command(ctx context.Context, scratch, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+scratch)
	// On SIGINT, go test ends after the programs that it started.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = rest
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("%s %q: %w", filepath.Base(name), args, err),
			errors.New(string(out)))
	}
	return nil
}

// next returns a pattern of the suite's next tests: a tenth of them, until all
// have had their turn.
func (s *suite) next(random *rand.Rand) string {
	if len(s.todo) == 0 {
		s.todo = append(s.todo, s.tests...)
		random.Shuffle(len(s.todo), func(i, j int) { s.todo[i], s.todo[j] = s.todo[j], s.todo[i] })
	}
	n := min(len(s.todo), max(1, len(s.tests)/10))
	some := s.todo[:n]
	s.todo = s.todo[n:]
	return "^(" + strings.Join(some, "|") + ")$"
}

// repeat returns a shell's command that runs the same tests again.
func (s *suite) repeat(in setting, tests string, shuffle int64) string {
	tool := "go"
	if s.live {
		tool = "out/livego"
	}
	words := append([]string{"env"}, in.env...)
	words = append(append(words, tool, "test"), s.flags...)
	words = append(words, "-count=1", fmt.Sprint("-shuffle=", shuffle),
		fmt.Sprintf("-run='%s'", tests))
	for _, arg := range in.args {
		words = append(words, strings.Replace(arg, "-test.", "-", 1))
	}
	words = append(words, s.pkg)
	if len(s.args) > 0 {
		words = append(append(words, "-args"), s.args...)
	}
	if len(in.by) > 0 {
		words = append(words, "#", in.name)
	}
	return strings.Join(words, " ")
}

// setting is what a run is given.
type setting struct {
	name string
	env  []string
	by   []string // a command that runs it
	args []string
}

// settings returns what there is here. remove takes the control group away
// again.
func settings() (all []setting, remove func()) {
	all = []setting{
		{name: "GOMAXPROCS=1", env: []string{"GOMAXPROCS=1"}},
		{name: "GOMAXPROCS=2", env: []string{"GOMAXPROCS=2"}},
		{name: "GOMAXPROCS=8", env: []string{"GOMAXPROCS=8"}},
		{name: "nice", by: []string{"nice", "-n", "10"}},
		{name: "cpu=1,4", args: []string{"-test.cpu=1,4"}},
	}
	group, err := halfACore()
	if err != nil { // There are as many settings, so that the seed means the same runs.
		fmt.Println("no runs with half a core:", err)
		return append(all, setting{name: "plain"}), func() {}
	}
	by := []string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(group, "cgroup.procs")}
	return append(all, setting{name: "half a core", by: by}), func() { _ = os.Remove(group) }
}

// halfACore makes a control group that has half a processor, in either version.
func halfACore() (group string, err error) {
	for _, v := range []struct{ root, file, half string }{
		{"/sys/fs/cgroup", "cpu.max", "50000 100000"},
		{"/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "50000"}, // of the usual 100000
	} {
		group = filepath.Join(v.root, fmt.Sprint("shm-stress-", os.Getpid()))
		if err = os.Mkdir(group, 0o755); err != nil {
			continue
		}
		var limit *os.File // which the kernel has made, or this is no control group
		if limit, err = os.OpenFile(filepath.Join(group, v.file), os.O_WRONLY, 0); err == nil {
			_, err = limit.WriteString(v.half)
			limit.Close()
		}
		if err == nil {
			return group, nil
		}
		_ = os.Remove(group)
	}
	return "", err
}
