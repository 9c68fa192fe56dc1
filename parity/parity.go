// Package parity compares a Go program with the C program that it was ported
// from. Both run on the same kernel, and must do the same.
//
//	func TestPortDoesWhatTheCDoes(t *testing.T) {
//		c := parity.CompileC(t, "anon_mmap.c", "-DUSE_MAP_ANON")
//		g := parity.BuildGo(t, "./cmd/anon_mmap")
//		parity.SameOutput(t, c, g)
//		parity.SameSyscalls(t, c, g, parity.Calls("mmap", "clone", "wait4", "munmap"))
//		parity.SameMaps(t, c, g)
//	}
//
// Addresses, descriptors and process ids differ from run to run. So names stand
// for them in the comparison, in the order in which they appear. A difference
// is reported as a diff, which marks the first line that differs.
//
// Package parity needs Linux, a C compiler to build C programs, and the go
// command to build Go programs.
// [SameSyscalls] needs strace(1).
package parity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// T has the methods of a test that this package calls. *[testing.T] and
// *[testing.B] have them.
type T interface {
	Helper()
	TempDir() string
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Program is a program that is built.
type Program struct {
	Path string
	Name string // for reports, such as "C" or "Go"
}

// CompileC compiles C sources into a program of the test's temporary folder.
// Arguments that end in .c are sources. The compiler gets all others as they
// are. The compiler is cc, or the one that the environment variable CC names.
// Warnings are errors.
func CompileC(t T, args ...string) Program {
	t.Helper()
	p := Program{filepath.Join(t.TempDir(), "in-c"), "C"}
	cc := strings.Fields(os.Getenv("CC"))
	if len(cc) == 0 {
		cc = []string{"cc"}
	}
	if _, err := exec.LookPath(cc[0]); err != nil {
		t.Fatalf("parity: no C compiler: %v (on Debian: apt-get install gcc libc6-dev)", err)
	}
	cc = append(cc, "-O2", "-Wall", "-Werror", "-o", p.Path)
	if out, err := exec.Command(cc[0], append(cc[1:], args...)...).CombinedOutput(); err != nil {
		t.Fatalf("parity: compile %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return p
}

// BuildGo builds a program in the test's temporary folder. pkg is a package, as
// go build takes it. go build gets the flags as they are.
func BuildGo(t T, pkg string, flags ...string) Program {
	t.Helper()
	p := Program{filepath.Join(t.TempDir(), "in-go"), "Go"}
	args := append([]string{"build", "-o", p.Path}, flags...)
	if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		t.Fatalf("parity: go build %s: %v\n%s", pkg, err, out)
	}
	return p
}

// An Option sets how the two programs are run, or what is compared.
type Option func(*options)

type options struct {
	args    []string
	stdin   []byte
	env     []string
	calls   []string
	lengths []string
	err     error
}

// Args gives both programs these arguments.
func Args(args ...string) Option { return func(o *options) { o.args = args } }

// Stdin gives both programs all bytes of r as their standard input. Without
// Stdin their standard input is empty.
func Stdin(r io.Reader) Option {
	return func(o *options) { o.stdin, o.err = io.ReadAll(r) }
}

// Env adds variables to the environment of both programs, each as "key=value".
func Env(env ...string) Option { return func(o *options) { o.env = env } }

// Calls names the system calls that [SameSyscalls] compares, as strace names
// them. Without Calls, SameSyscalls compares the calls that map memory, fork
// and wait.
func Calls(names ...string) Option { return func(o *options) { o.calls = names } }

// Lengths makes [SameSyscalls] and [SameMaps] compare private memory, too, if
// it was mapped with one of these lengths, in bytes.
//
// The Go runtime and the C library map private memory that does not belong to
// the port. So without Lengths only shared memory is compared.
func Lengths(lengths ...int) Option {
	return func(o *options) {
		for _, n := range lengths {
			o.lengths = append(o.lengths, fmt.Sprint(n))
		}
	}
}

// defaultCalls are the calls that map memory, fork and wait.
var defaultCalls = []string{"mmap", "mremap", "munmap", "mprotect", "madvise", "open", "openat",
	"memfd_create",
	"close", "clone", "clone3", "fork", "vfork", "wait4", "waitid"}

func newOptions(opts []Option) (*options, error) {
	o := &options{calls: defaultCalls}
	for _, set := range opts {
		set(o)
	}
	return o, o.err
}

// command returns the program, ready to run, behind the words of a wrapper such
// as strace.
func (o *options) command(p Program, wrapper ...string) *exec.Cmd {
	words := append(append(wrapper, p.Path), o.args...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin = bytes.NewReader(o.stdin)
	cmd.Env = append(os.Environ(), o.env...)
	return cmd
}

// SameOutput runs both programs, and reports an error if they differ in what
// they write to standard output or to standard error, in their exit status, or
// in the signal that ends them.
func SameOutput(t T, c, g Program, opts ...Option) {
	t.Helper()
	o, err := newOptions(opts)
	if err != nil {
		t.Fatalf("parity: standard input: %v", err)
	}
	inC, err := o.output(c)
	if err != nil {
		t.Fatalf("parity: run %s: %v", c.Path, err)
	}
	inGo, err := o.output(g)
	if err != nil {
		t.Fatalf("parity: run %s: %v", g.Path, err)
	}
	if d := diff(inC, inGo); d != "" {
		t.Errorf("parity: the outputs differ (- %s, + %s):\n%s", c.Name, g.Name, d)
	}
}

// output returns what a program writes, and how it ends, as lines.
func (o *options) output(p Program) ([]string, error) {
	var stdout, stderr bytes.Buffer
	cmd := o.command(p)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	lines := prefixed("stdout: ", stdout.String())
	lines = append(lines, prefixed("stderr: ", stderr.String())...)
	return append(lines, fmt.Sprintf("end: %v", cmd.ProcessState)), nil
}

// prefixed returns the lines of s, each behind a prefix. A last line without a
// newline differs from one with a newline.
func prefixed(prefix, s string) []string {
	var lines []string
	for line := range strings.Lines(s) {
		text, ended := strings.CutSuffix(line, "\n")
		if !ended {
			text += " (no newline)"
		}
		lines = append(lines, prefix+text)
	}
	return lines
}
