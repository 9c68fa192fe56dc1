// Package strace reads what strace(1) writes.
package strace

import (
	"regexp"
	"strings"
)

// Call is a system call that has ended.
type Call struct {
	Thread string // its id
	Name   string // "mmap"
	Text   string // with its arguments: "mmap(NULL, 4096, ...)"
	Result string // "0x7f0000000000", or "-1 ENOMEM (Cannot allocate memory)"
}

var (
	unfinished = regexp.MustCompile(`^(\d+) +(\w+\(.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	finished   = regexp.MustCompile(`^(\d+) +((\w+)\(.*\)) += (.*)$`)
)

// Read returns the calls of a trace, made by strace -f -o, in the order of
// their ends. A call that other threads' lines interrupt is put together again.
// A call that a signal interrupts, and that the kernel begins again, is one
// call.
func Read(trace string) []Call {
	var calls []Call
	begun := map[string]string{} // by thread
	for line := range strings.Lines(trace) {
		line = strings.TrimSpace(line)
		if m := unfinished.FindStringSubmatch(line); m != nil {
			begun[m[1]] = m[2]
			continue
		}
		if m := resumed.FindStringSubmatch(line); m != nil {
			line = m[1] + " " + begun[m[1]] + m[2]
		}
		if m := finished.FindStringSubmatch(line); m != nil &&
			!strings.HasPrefix(m[4], "? ERESTART") {
			calls = append(calls, Call{m[1], m[3], m[2], m[4]})
		}
	}
	return calls
}

// Clones reports whether the call makes a process or a thread.
func (c Call) Clones() bool {
	return strings.HasPrefix(c.Name, "clone") || strings.HasSuffix(c.Name, "fork")
}

// MakesThread reports whether the call makes a thread.
func (c Call) MakesThread() bool { return c.Clones() && strings.Contains(c.Text, "CLONE_THREAD") }
