package live

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrNotPatched is what a fork fails with in a program that plain go built.
var ErrNotPatched = errors.New("live: this program's runtime cannot fork: build it by livego (go " +
	"run forkshm.example/shm/cmd/livego build) instead of go build, with Go 1.24 to 1.27")

// ErrTracing is what a fork fails with while runtime/trace takes an execution
// trace.
var ErrTracing = errors.New("live: no fork while an execution trace is taken")

var errNilFunc = errors.New("live: a nil function or writer")

// ErrSynctest is what a fork fails with in a bubble of testing/synctest, whose
// time is its own.
var ErrSynctest = errors.New("live: no fork inside a bubble of testing/synctest")

// ErrStuck is what [GoWithin] fails with where a child does not get as far as
// its function.
var ErrStuck = errors.New("it did not begin its function")

// ErrSaving is what a snapshot fails with while an earlier one to the same file
// is under way: it would replace newer data by older, were it to end last.
var ErrSaving = errors.New("a snapshot to this file is under way")

var errExited = errors.New("the child exited before the snapshot was complete")

// SnapshotError is how a snapshot failed after its fork.
type SnapshotError struct {
	Path string // "" of [SnapshotTo]
	// What failed in the child: encode's error, a system call's, or "panic: ...";
	// "" if it died without a word
	Message string

	// Err is how the child ended, an [*shm.ExitError], or what a writer of
	// SnapshotTo failed with.
	Err error

	errno syscall.Errno
}

// Error returns, say, "live: snapshot to dump.db: no space left on device" or
// "live: snapshot to dump.db: child 4711: signal: killed".
func (e *SnapshotError) Error() string {
	what := e.Message
	if what == "" {
		what = e.Err.Error()
	}
	if e.Path == "" {
		return "live: snapshot: " + what
	}
	return fmt.Sprintf("live: snapshot to %s: %s", e.Path, what)
}

// Unwrap returns Err, and the errno that the child's error wrapped, if any: so
// errors.Is(err, syscall.ENOSPC) holds.
func (e *SnapshotError) Unwrap() []error {
	if e.errno == 0 {
		return []error{e.Err}
	}
	return []error{e.Err, e.errno}
}
