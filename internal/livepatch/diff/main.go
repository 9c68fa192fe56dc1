// Diff prints the patch for live forks as one diff against the sources of a Go
// release, to be read, or applied by patch -p1 in its GOROOT.
//
//	go run ./internal/livepatch/diff [GOROOT]    the Go in use by default
//
// The build does not apply it: livego hands the same texts to the compiler.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"forkshm.example/shm/internal/livepatch"
)

func main() {
	diff, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "diff:", err)
		os.Exit(1)
	}
	_, _ = os.Stdout.Write(diff)
}

func run(args []string) ([]byte, error) {
	goroot, err := gorootOf(args)
	if err != nil {
		return nil, err
	}
	version, err := os.ReadFile(filepath.Join(goroot, "VERSION"))
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(string(version), "\n")
	before, after, err := livepatch.Tree(goroot, name)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "livepatch")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := write(filepath.Join(dir, "a/src"), before); err != nil {
		return nil, err
	}
	if err := write(filepath.Join(dir, "b/src"), after); err != nil {
		return nil, err
	}
	return compare(dir)
}

func gorootOf(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	return strings.TrimSpace(string(out)), err
}

func write(root string, files map[string][]byte) error {
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// compare has diff(1) compare dir's folders a and b. The times of the files are
// left out: each call prints the same.
func compare(dir string) ([]byte, error) {
	cmd := exec.Command("diff", "-ruN", "a", "b")
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) { // 1: they differ
		return nil, err
	}
	times := regexp.MustCompile(`(?m)^((?:---|\+\+\+) [^\t\n]*)\t.*$`)
	return times.ReplaceAll(out, []byte("$1")), nil
}
