package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"forkshm.example/shm/parity"
	"forkshm.example/shm/tools/costs"
)

func (b *builder) syscalls() ([]syscalls, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		b.skipped = append(b.skipped, "the system calls: it needs strace")
		return nil, nil
	}
	calls := parity.Calls("mmap", "munmap", "mprotect", "madvise", "openat", "memfd_create",
		"ftruncate", "close",
		"clone", "clone3", "fork", "vfork", "wait4", "waitid", "pidfd_open", "setpgid")
	var all []syscalls
	for _, technique := range costs.Techniques {
		b.progress.show("system calls: %s", technique)
		t := &tracing{}
		args := parity.Args(technique, "shared", "4096", "0")
		s := syscalls{Technique: technique}
		s.InC = t.of(b.path("life-c"), calls, args)
		s.InGo = t.of(b.path("life-anonymous"), calls, args)
		t.clean()
		if t.err != nil {
			return nil, t.err
		}
		all = append(all, s)
	}
	return all, nil
}

// tracing is a parity.T that is not a test.
type tracing struct {
	folders []string
	err     error
}

// usage matches a child's resource usage, which differs from run to run.
var usage = regexp.MustCompile(`\{ru_utime.*\}`)

// of returns the calls of a program, as lines for a reader.
func (t *tracing) of(path string, opts ...parity.Option) (lines []string) {
	defer func() {
		if e := recover(); e != nil && t.err == nil {
			panic(e)
		}
	}()
	for _, line := range parity.Syscalls(t, parity.Program{Path: path}, opts...) {
		line = strings.TrimPrefix(line, "process ")
		line = strings.Replace(strings.Replace(line, "0.1: ", "child: ", 1), "0: ", "", 1)
		line = strings.NewReplacer("(0:1)", "", "(0.1)", "", "(0.1:1)", "").Replace(line)
		lines = append(lines, usage.ReplaceAllString(line, "{...}"))
	}
	return lines
}

func (t *tracing) Helper() {}

func (t *tracing) TempDir() string {
	dir, err := os.MkdirTemp("", "trace")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.folders = append(t.folders, dir)
	return dir
}

func (t *tracing) clean() {
	for _, dir := range t.folders {
		_ = os.RemoveAll(dir)
	}
}

func (t *tracing) Errorf(format string, args ...any) { t.err = fmt.Errorf(format, args...) }

func (t *tracing) Fatalf(format string, args ...any) {
	t.err = fmt.Errorf(format, args...)
	panic(t.err)
}

func (t *tracing) Skipf(format string, args ...any) { t.Fatalf(format, args...) }
