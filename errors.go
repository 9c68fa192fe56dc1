package shm

import (
	"errors"
	"fmt"
)

// What is refused before the kernel is asked. Test with [errors.Is].
var (
	ErrClosed     = errors.New("mapping is closed")
	ErrPoolClosed = errors.New("pool is closed")
	ErrRange      = errors.New("out of range")
	ErrAlign      = errors.New("misaligned")
	ErrType       = errors.New("type holds Go pointers, which mean nothing in mapped memory")
	ErrLive       = errors.New("live children map the object, and what it loses would be SIGBUS in them: wait for them, or use Truncate")
	ErrGrowShared = errors.New("a shared mapping cannot grow past the size that it was created with (use Config.Reserve, or Memfd)")
)

// Error is what every failure of a mapping is reported as.
type Error struct {
	Op     string // what was attempted: "map", "resize", ...
	Length int    // the length that it was attempted with, in bytes; 0 if the operation has none
	Err    error  // wraps an *os.SyscallError if the kernel refused, else a sentinel, EINVAL or errors.ErrUnsupported
}

// hasLength says whether an operation is attempted with a length.
func hasLength(op string) bool {
	switch op {
	case "object length", "file", "map file", "seal", "slice":
		return false
	}
	return true
}

func (e *Error) Error() string {
	if !hasLength(e.Op) || errors.Is(e.Err, ErrClosed) || errors.Is(e.Err, ErrPoolClosed) { // which has none
		return fmt.Sprintf("shm: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("shm: %s %d bytes: %v", e.Op, e.Length, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }
