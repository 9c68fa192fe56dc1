package live

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrNotPatched is the error of a fork in a program that plain go built.
var ErrNotPatched = errors.New("live: this program's runtime cannot fork: build it by livego (go " +
	"run forkshm.example/shm/cmd/livego build) instead of go build, with Go 1.24 to 1.27")

// ErrTracing is the error of a fork while runtime/trace takes an execution
// trace.
var ErrTracing = errors.New("live: no fork while an execution trace is taken")

var errNilFunc = errors.New("live: a nil function or writer")

// ErrSynctest is the error of a fork in a bubble of testing/synctest. Such a
// bubble has a clock of its own, which a child cannot have.
var ErrSynctest = errors.New("live: no fork inside a bubble of testing/synctest")

// ErrStuck is wrapped by the error of [GoWithin] if the child does not begin
// its function in time.
var ErrStuck = errors.New("it did not begin its function")

// ErrSaving is the error of a snapshot while an earlier snapshot to the same
// file is under way. If the earlier one ended last, it would replace newer data
// by older data.
var ErrSaving = errors.New("a snapshot to this file is under way")

// ErrTooLong is the error of a [Call] whose encoded result is longer than
// [CallConfig].Limit.
var ErrTooLong = errors.New("the result is too long")

var (
	errSilent  = errors.New("live: call: the child exited without an answer")
	errGarbled = errors.New("live: call: the child's answer is damaged")
)

var errExited = errors.New("the child exited before the snapshot was complete")

// SnapshotError tells how a snapshot failed after its fork.
type SnapshotError struct {
	Path string // "" for [SnapshotTo]
	// Message is what failed in the child: the text of encode's error, of a
	// system call's error, or "panic: ...". Message is "" if the child ended
	// without telling.
	Message string

	// Err is how the child ended, an [*shm.ExitError], or the error of the
	// writer of SnapshotTo.
	Err error

	errno syscall.Errno
}

// Error returns a text such as "live: snapshot to dump.db: no space left on
// device", or "live: snapshot to dump.db: child 4711: signal: killed".
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

// Unwrap returns Err, and the errno that the child's error wrapped, if there is
// one. So errors.Is(err, syscall.ENOSPC) holds after a full disk.
func (e *SnapshotError) Unwrap() []error {
	if e.errno == 0 {
		return []error{e.Err}
	}
	return []error{e.Err, e.errno}
}

// CallError is how the function of a [Call] failed in the child.
type CallError struct {
	// Message is the text of the error that the function returned, or "panic: "
	// and what it panicked with.
	Message string

	// Trace is the stack of a function that panicked or called
	// [runtime.Goexit], as [debug.Stack] has it; "" if it returned an error.
	Trace string

	// Err is how the child ended, an [*shm.ExitError], if the function did not
	// return. It is nil if the function returned an error.
	Err error

	errno syscall.Errno
}

// Error returns, say, "live: call: no space left on device" or "live: call:
// panic: index out of range".
func (e *CallError) Error() string { return "live: call: " + e.Message }

// Unwrap returns Err, and the errno that the function's error wrapped, if any:
// so errors.Is(err, syscall.ENOSPC) holds.
func (e *CallError) Unwrap() (wrapped []error) {
	if e.Err != nil {
		wrapped = append(wrapped, e.Err)
	}
	if e.errno != 0 {
		wrapped = append(wrapped, e.errno)
	}
	return wrapped
}
