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
