package shm

import (
	"errors"
	"fmt"
)

// Errors for what the package refuses before it asks the kernel. Test for them
// with [errors.Is].
var (
	// ErrClosed is for a Mapping or a Buffer that is closed.
	ErrClosed = errors.New("mapping is closed")

	// ErrPoolClosed is for a Pool that is closed.
	ErrPoolClosed = errors.New("pool is closed")

	// ErrForkServerClosed is for a ForkServer that is closed.
	ErrForkServerClosed = errors.New("fork server is closed")

	// ErrNotStarted is for a call of a [Pool] that no child has begun. So the
	// call can be made again, and is not done twice. If a call ended early with
	// another error, the child may have done a part of it. The child itself
	// tells the pool what it has begun. A child that was taken over can lie.
	ErrNotStarted = errors.New("no child has begun the call")

	// ErrCPUTime is for a call of a [Pool] that has used more processor time than
	// PoolConfig.CPUTime allows. The call may be done in part.
	ErrCPUTime = errors.New("the call has used up its processor time")

	// ErrRange is for an offset, a length or a count that is negative, or that
	// exceeds the memory.
	ErrRange = errors.New("out of range")

	// ErrAlign is for an offset or a length that is not a multiple of the page
	// size, or of the alignment of a type.
	ErrAlign = errors.New("misaligned")

	// ErrType is for a type that holds Go pointers. The garbage collector does
	// not see mapped memory, and another process cannot use Go pointers.
	ErrType = errors.New("type holds Go pointers, which mean nothing in mapped memory")

	// ErrLive is for shrinking a shared Memfd mapping while there are children of
	// Fork that are not reaped.
	ErrLive = errors.New("live children would get SIGBUS beyond the new length " +
		"(wait for them, or use Truncate)")

	// ErrGrowShared is for growing a shared mapping that is no Memfd past the
	// size that it was created with.
	ErrGrowShared = errors.New("a shared mapping cannot grow past its first size " +
		"(use Config.Reserve, or Memfd)")
)

// notStarted is an error that is ErrNotStarted, too. Its text is that of the
// cause.
type notStarted struct{ error }

func (e notStarted) Is(target error) bool { return target == ErrNotStarted }
func (e notStarted) Unwrap() error        { return e.error }

// Error is the error of every failed operation on a mapping, a buffer or a
// pool.
type Error struct {
	Op     string // the operation: "map", "resize", ...
	Length int    // the length that the operation was given, in bytes; 0 if it has none

	// Err is the cause. If the kernel refused, Err wraps an *os.SyscallError. If
	// the package refused, Err wraps ErrClosed, ErrPoolClosed,
	// ErrForkServerClosed, ErrNotStarted, ErrCPUTime, ErrRange, ErrAlign, ErrType,
	// ErrLive, ErrGrowShared, EINVAL or errors.ErrUnsupported.
	Err error
}

func (e *Error) Error() string {
	switch {
	case !hasLength(e.Op) || errors.Is(e.Err, ErrClosed) || errors.Is(e.Err, ErrPoolClosed) ||
		errors.Is(e.Err, ErrForkServerClosed):
		return fmt.Sprintf("shm: %s: %v", e.Op, e.Err)
	case e.Op == "resize" || e.Op == "truncate":
		return fmt.Sprintf("shm: %s to %d bytes: %v", e.Op, e.Length, e.Err)
	}
	return fmt.Sprintf("shm: %s %d bytes: %v", e.Op, e.Length, e.Err)
}

// ResultError reports that the C function of [Pool.Do] or [Pool.DoView] did not
// return 0. The child goes on serving calls.
type ResultError struct {
	Pid    int    // the child
	Result int    // what the function returned
	Out    []byte // a copy of the answer that the function had made, such as a message
}

func (e *ResultError) Error() string {
	return fmt.Sprintf("child %d: the function returned %d", e.Pid, e.Result)
}

// hasLength reports whether an operation is given a length.
func hasLength(op string) bool {
	switch op {
	case "drain", "object length", "file", "map file", "seal", "slice":
		return false
	}
	return true
}

func (e *Error) Unwrap() error { return e.Err }
