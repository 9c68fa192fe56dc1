package live

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Check returns what a child that is forked now could not use as this process
// does, sorted by kind. With LIVE_CHECK=1 in the environment when the program
// starts, each fork prints it to standard error.
//
// Check finds what the runtime and the kernel know. A lock that is held is found
// if another goroutine waits for it: package sync does not note who holds a
// lock. Check finds an sql.DB, and any other value that the program has put
// around descriptors, by its sockets. The standard files are not listed. Check
// stops the world for as long as it reads the stacks of all goroutines, once
// for each lock that is waited for. What it returns is true of one instant.
//
// In a program that plain go built, the error is [ErrNotPatched]. See proc(5).
func Check() ([]Finding, error) {
	if err := canFork(); err != nil {
		return nil, err
	}
	in := inspect()
	found := slices.Concat(in.locks(), in.descriptors(), in.timersFound(), in.threads(),
		sharedMemory())
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Kind, b.Kind) })
	return found, nil
}

// checking has each fork print what Check finds.
var checking = os.Getenv("LIVE_CHECK") == "1"

func printCheck(w io.Writer) {
	found, err := Check()
	if err != nil {
		return // the fork says why
	}
	const format = "live: %d things that a child forked now could not use as process %d does " +
		"(LIVE_CHECK=1):\n"
	text := fmt.Sprintf(format, len(found), os.Getpid())
	for _, f := range found {
		text += "live: " + strings.ReplaceAll(f.String(), "\n", "\nlive: ") + "\n"
	}
	_, _ = io.WriteString(w, text)
}
