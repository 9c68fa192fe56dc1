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

// SameSyscalls runs both programs under strace(1), and reports an error if they
// do not make the same system calls, with the same arguments and results, in
// the same order. It compares each process of one program with the same process
// of the other: the first process, its first child, and so on. The calls of a
// thread count as calls of its process.
//
// [Calls] names the calls that are compared. Calls on memory count if the
// program mapped that memory shared, or with one of the [Lengths]. Calls on
// descriptors count for /dev/zero and memfds. A clone that makes a thread does
// not count.
//
// If neither program makes a call that counts, that is an error, too.
//
// If strace is not installed, the test is skipped, and the reason says how to
// install strace.
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
// [SameSyscalls] compares, one a line. The calls of the first process come
// first, and those of its children follow.
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

// processes has the process of each thread of a trace, and the process id of
// each process. The name of the first process is "0". The name of its second
// child is "0.2".
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

// relate keeps the calls that count, sorted by process. Names stand for what
// differs from run to run.
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
