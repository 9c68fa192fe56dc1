package shared

import (
	"errors"
	"fmt"
)

// Methods of structures return these errors as they are.
var (
	// ErrOwnerDied means that the lock is held now, and that its last owner died
	// while it held the lock. What the lock guards may be changed in part.
	ErrOwnerDied = errors.New("shared: the lock is held, but its last owner died: " +
		"what it guards may be changed in part")

	// ErrNotRecoverable means that the lock can never be held again. Its owner
	// died, and the next owner called Unlock without Consistent.
	ErrNotRecoverable = errors.New("shared: the lock is not recoverable: " +
		"its owner died, and nobody called Consistent")

	// ErrLocked means that the lock is held at the moment.
	ErrLocked = errors.New("shared: the lock is held")

	// ErrNotHeld means that this process does not hold the lock.
	ErrNotHeld = errors.New("shared: this process does not hold the lock")

	// ErrTooMany means that this process holds or waits for as many structures as
	// it can, or that the program has too many processes.
	ErrTooMany = errors.New("shared: this process holds too many locks at once")

	// ErrTaken means that another process is this end of the ring.
	ErrTaken = errors.New("shared: another process is this end of the ring")

	// ErrPeerDied means that the process at the other end of the ring has died,
	// and that this process did not reap it.
	ErrPeerDied = errors.New("shared: the process at the other end of the ring has died")

	// ErrOverwritten means that somebody wrote to bytes of the ring that are not a
	// record's. Nothing more can be had from the ring.
	ErrOverwritten = errors.New("shared: the ring's own bytes were overwritten")
)

// The functions of an [Arena] return these errors as they are.
var (
	// ErrFull means that the arena has no block of this size, and cannot have more.
	ErrFull = errors.New("shared: the arena has no room for such a block")

	// ErrNotNil means that the Ref is not nil: it names a block already.
	ErrNotNil = errors.New("shared: the Ref is not nil: free what it names, or set it to nil")

	// ErrNotAllocated means that the Ref names no block that is in use.
	ErrNotAllocated = errors.New("shared: the Ref names no block that is in use")

	// ErrOutside means that the Ref itself does not lie in the arena's mapping, or
	// not at a multiple of 8 bytes.
	ErrOutside = errors.New("shared: the Ref does not lie in the arena's mapping")

	// ErrBusy means that another process has been about to take or to free the
	// block for a second, or has been busy with memory that the arena takes into
	// use. Check keeps others from that as long as it runs.
	ErrBusy = errors.New("shared: another process is about to take or to free the block")
)

// ErrKind means that the bytes of a structure are neither zero nor such a
// structure.
var ErrKind = errors.New("the bytes hold something else")

// Error says which structure could not be made.
type Error struct {
	Op  string // what was to be made, such as "mutex"
	Off int    // the structure's offset in its mapping, in bytes
	Err error
}

// Error returns the text of the error.
func (e *Error) Error() string { return fmt.Sprintf("shared: %s at offset %d: %v", e.Op, e.Off, e.Err) }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
