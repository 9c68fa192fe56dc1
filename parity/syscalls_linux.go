package parity

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"forkshm.example/shm/internal/strace"
)

// SameSyscalls runs both programs under strace(1), and reports an error unless
// each process of the one makes the same system calls, with the same arguments
// and results, in the same order, as the process of the other that was forked
// as the same child. Threads count for their process.
//
// Compared are the calls that [Calls] names. Of these, calls on memory count if
// the program mapped that memory shared, or with one of the [Lengths]. Calls on
// descriptors count for /dev/zero and memfds. A clone that makes a thread does
// not count. Addresses, descriptors and process ids are replaced by names, in
// the order in which they appear.
//
// That neither program makes a call that counts is an error too.
//
// Where strace is not installed the test is skipped, and the reason says how
// strace is installed.
func SameSyscalls(t T, c, g Program, opts ...Option) {
	t.Helper()
	o, err := newOptions(opts)
	if err != nil {
		t.Fatalf("parity: standard input: %v", err)
	}
	inC, inGo := o.systemCalls(t, c), o.systemCalls(t, g)
	if len(inC) == 0 && len(inGo) == 0 {
		t.Errorf("parity: neither program made a system call that counts: name the calls by " +
			"Calls, and private memory by Lengths")
	}
	if d := diff(inC, inGo); d != "" {
		t.Errorf("parity: the system calls differ (- %s, + %s):\n%s", c.Name, g.Name, d)
	}
}

// Syscalls runs a program under strace(1), and returns the system calls that
// [SameSyscalls] compares, a line each: first those of the first process, then
// those of its children.
func Syscalls(t T, p Program, opts ...Option) []string {
	t.Helper()
	o, err := newOptions(opts)
	if err != nil {
		t.Fatalf("parity: standard input: %v", err)
	}
	return o.systemCalls(t, p)
}

func (o *options) systemCalls(t T, p Program) []string {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skipf("parity: strace is not installed, so that system calls cannot be compared (on " +
			"Debian: apt-get install strace)")
	}
	calls, err := o.trace(t.TempDir(), p)
	if err != nil {
		t.Fatalf("parity: trace %s: %v", p.Path, err)
	}
	return o.relate(calls)
}

// trace returns the calls of a program's processes.
func (o *options) trace(dir string, p Program) ([]strace.Call, error) {
	file := filepath.Join(dir, "trace")
	// These calls tell which process is whose child.
	traced := append(slices.Clone(o.calls), "clone", "clone3", "fork", "vfork")
	for i, name := range traced {
		// Not every processor has every call: arm64 has neither open nor fork
		traced[i] = "?" + name
	}
	cmd := o.command(p, "strace", "-f", "-o", file, "-e", "signal=none", "-e",
		"trace="+strings.Join(traced, ","))
	out, runErr := cmd.CombinedOutput()
	trace, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	calls := strace.Read(string(trace))
	if len(calls) == 0 {
		return nil, fmt.Errorf("strace saw no call (%v): %s", runErr, out)
	}
	return calls, nil
}

// processes says which process each thread of a trace belongs to, and which
// pid each process has. The name of the first process is "0", that of its
// second child "0.2".
func processes(calls []strace.Call) (of, pids map[string]string) {
	of, pids = map[string]string{}, map[string]string{}
	children := map[string]int{}
	if len(calls) > 0 {
		of[calls[0].Thread], pids["0"] = "0", calls[0].Thread
	}
	// A child's first calls may stand before the end of the call that made it.
	// So the forks alone are gone through first, until nothing is new.
	for again := true; again; {
		again = false
		for _, c := range calls {
			parent, known := of[c.Thread]
			if !c.Clones() || !known || of[c.Result] != "" || !isNumber(c.Result) {
				continue
			}
			again = true
			if c.MakesThread() {
				of[c.Result] = parent
				continue
			}
			children[parent]++
			name := fmt.Sprintf("%s.%d", parent, children[parent])
			of[c.Result], pids[name] = name, c.Result
		}
	}
	return of, pids
}

// relate keeps the calls that count, with names for what differs from run to
// run, and sorts them by process.
func (o *options) relate(calls []strace.Call) []string {
	process, pids := processes(calls)
	states := newStates(pids, o.lengths)
	lines := map[string][]string{}
	for _, c := range calls {
		p, known := process[c.Thread]
		if !known {
			continue
		}
		text, counts := states.of(p).follow(c)
		if counts && slices.Contains(o.calls, c.Name) {
			lines[p] = append(lines[p], fmt.Sprintf("process %s: %s", p, text))
		}
	}
	var all []string
	for _, p := range slices.Sorted(maps.Keys(lines)) {
		all = append(all, lines[p]...)
	}
	return all
}
