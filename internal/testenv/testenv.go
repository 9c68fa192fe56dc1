// Package testenv builds and finds what the tests of several packages need.
package testenv

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
)

// Eventually waits until done returns true. After five minutes it returns
// false: the limit is for a test that hangs, and not for a slow machine.
func Eventually(done func() bool) bool {
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		if done() {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// BuildSetting returns a setting with which the running test was built, such as
// "-tags".
func BuildSetting(key string) string {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// NeedStrace returns the path of strace, or skips the test.
func NeedStrace(t testing.TB) string {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: system calls are not compared")
	}
	return strace
}

// NeedCC skips a test that compiles C if there is no compiler, as on a machine
// that only runs the tests.
func NeedCC(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath(CC()); err != nil {
		t.Skipf("%s is not installed: other programs are not built", CC())
	}
}

// NeedDynamic skips a test that loads another library if the program is linked
// statically.
func NeedDynamic(t testing.TB) {
	t.Helper()
	if IsStatic() {
		t.Skip("this program is linked statically: it loads no library")
	}
}

// IsStatic returns whether this program is linked statically, so that it
// contains its C library.
func IsStatic() bool {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer f.Close()
	for _, part := range f.Progs {
		if part.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}

// NeedTime skips a test that builds or traces other programs if go test has the
// flag -short.
func NeedTime(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: other programs are not built")
	}
}

// Go runs the go command in a folder. An error contains what the command
// printed.
func Go(dir string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}

// GoBuildOnce returns a function that builds a Go program of this module and
// returns its path. It builds when it is first called.
func GoBuildOnce(pkg, tags string) func(testing.TB) string {
	return once(filepath.Base(pkg)+"-go-"+tags, "go", func(program string) error {
		readSources(filepath.Join(Root(), pkg))
		return Go(Root(), "build", "-tags", tags, "-o", program, pkg)
	})
}

// CompileOnce returns a function that compiles a C program and returns its
// path. It compiles when it is first called. Arguments that end in .c are files
// of this module.
func CompileOnce(name string, args ...string) func(testing.TB) string {
	return once(name, CC(), func(program string) error {
		all := []string{"-std=gnu11", "-O2", "-o", program}
		for _, arg := range args {
			if strings.HasSuffix(arg, ".c") {
				arg = filepath.Join(Root(), arg)
				readSources(filepath.Dir(arg))
			}
			all = append(all, arg)
		}
		if out, err := exec.Command(CC(), all...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// once returns a function that builds a program by a compiler. Without a
// compiler, as on a machine that only runs the tests, the function skips the
// test. If the environment variable SHM_TEST_PROGRAMS names a folder that has
// the program, the function returns that program.
func once(name, compiler string, build func(program string) error) func(testing.TB) string {
	if dir := os.Getenv("SHM_TEST_PROGRAMS"); dir != "" {
		there := filepath.Join(dir, name)
		if _, err := os.Stat(there); err == nil {
			return func(testing.TB) string { return there }
		}
	}
	built := sync.OnceValues(func() (string, error) {
		dir, err := scratch()
		if err != nil {
			return "", err
		}
		program := filepath.Join(dir, name)
		return program, build(program)
	})
	return func(t testing.TB) string {
		t.Helper()
		if _, err := exec.LookPath(compiler); err != nil {
			t.Skipf("%s is not installed: other programs are not built", compiler)
		}
		program, err := built()
		if err != nil {
			t.Fatal(err)
		}
		return program
	}
}

// CC returns the C compiler's command.
func CC() string {
	if cc := os.Getenv("CC"); cc != "" {
		return cc
	}
	return "cc"
}

// readSources reads the sources in a folder. So go test does not use a cached
// result if they have changed.
func readSources(dir string) {
	for _, pattern := range []string{"*.go", "*.[ch]"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, file := range files {
			_, _ = os.ReadFile(file)
		}
	}
}

// scratch makes the folder for what tests build. RemoveScratch removes it.
var scratch = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "shm-test-")
	scratchDir = dir
	return dir, err
})

var scratchDir string

// RemoveScratch removes what GoBuildOnce and CompileOnce built. A package's
// TestMain calls it last.
func RemoveScratch() {
	if scratchDir != "" {
		os.RemoveAll(scratchDir)
	}
}

// Root returns the folder of this module.
func Root() string { return root }

// root is set before a test can change the working directory.
var root = func() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "."
}()
