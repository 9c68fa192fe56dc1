//go:build linux

// Command parity holds a Go program against the C program that it is a port of.
//
//	parity -c prog.c -go ./cmd/prog [-cflags "-DX"] [-goflags "-tags devzero"]
//		[-calls mmap,clone] [-lengths 4096] [-stdin file] [args ...]
//
// Parity builds both, and runs both with the arguments. It prints a diff where
// they differ in what they write, in how they end, in the system calls that
// they make, or in how their memory is mapped. The exit status is 0 if they are
// alike, 1 if they differ, and 2 if they could not be compared. See package
// forkshm.example/shm/parity.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"forkshm.example/shm/parity"
)

func main() {
	var (
		c       = flag.String("c", "", "C source files, separated by spaces")
		cFlags  = flag.String("cflags", "", "flags for the C compiler, separated by spaces")
		pkg     = flag.String("go", "", "the Go package")
		goFlags = flag.String("goflags", "", "flags for go build, separated by spaces")
		calls   = flag.String("calls", "", "system calls to compare, separated by commas "+
			"(default: those that map, fork and wait)")
		lengths = flag.String("lengths", "",
			"lengths of private memory to compare too, in bytes, separated by commas")
		stdin = flag.String("stdin", "", "a file that both programs read as standard input")
	)
	flag.Parse()
	if *c == "" || *pkg == "" {
		flag.Usage()
		os.Exit(2)
	}
	opts := []parity.Option{parity.Args(flag.Args()...)}
	if *calls != "" {
		opts = append(opts, parity.Calls(strings.Split(*calls, ",")...))
	}
	for _, s := range strings.FieldsFunc(*lengths, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(s)
		if err != nil {
			fail("-lengths: %v", err)
		}
		opts = append(opts, parity.Lengths(n))
	}
	var input []byte
	if *stdin != "" {
		var err error
		if input, err = os.ReadFile(*stdin); err != nil {
			fail("-stdin: %v", err)
		}
	}
	os.Exit(compare(append(strings.Fields(*cFlags), strings.Fields(*c)...), *pkg,
		strings.Fields(*goFlags), input, opts))
}

// compare runs all comparisons, and returns the exit status.
func compare(c []string, pkg string, goFlags []string, input []byte,
	opts []parity.Option) (status int) {
	r := new(reporter)
	defer r.removeAll()
	defer func() {
		if e := recover(); e != nil && e != errStopped {
			panic(e)
		} else if e != nil {
			status = 2
		}
	}()
	inC, inGo := parity.CompileC(r, c...), parity.BuildGo(r, pkg, goFlags...)
	for _, what := range []struct {
		name string
		same func(t parity.T, c, g parity.Program, opts ...parity.Option)
	}{{"output", parity.SameOutput}, {"system calls", parity.SameSyscalls},
		{"memory maps", parity.SameMaps}} {
		before := r.differences
		what.same(r, inC, inGo, append(opts, parity.Stdin(bytes.NewReader(input)))...)
		if r.differences == before {
			fmt.Printf("parity: same %s\n", what.name)
		}
	}
	return min(r.differences, 1)
}

// reporter is what a test is to package parity.
type reporter struct {
	differences int
	folders     []string
}

var errStopped = fmt.Errorf("stopped")

func (r *reporter) Helper() {}

func (r *reporter) TempDir() string {
	dir, err := os.MkdirTemp("", "parity")
	if err != nil {
		r.Fatalf("parity: %v", err)
	}
	r.folders = append(r.folders, dir)
	return dir
}

func (r *reporter) Errorf(format string, args ...any) {
	r.differences++
	fmt.Printf(format+"\n", args...)
}

// Fatalf and Skipf stop: nothing that was not compared is called alike.
func (r *reporter) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	panic(errStopped)
}

func (r *reporter) Skipf(format string, args ...any) { r.Fatalf(format, args...) }

func (r *reporter) removeAll() {
	for _, dir := range r.folders {
		_ = os.RemoveAll(dir)
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "parity: "+format+"\n", args...)
	os.Exit(2)
}
