package shared

import (
	"context"

	"forkshm.example/shm"
)

// Mutex is a lock in shared memory. Its owner is a process. Goroutines of one
// process exclude each other as well, and any of them may unlock the lock.
//
// If a process ends while it holds the lock, the next owner is told so by
// [ErrOwnerDied]. Package shm notices the end of a child when it reaps the child,
// at once after the end.
//
// A Mutex is valid as long as what shm.At returns. After a move of the mapping,
// NewMutex finds the lock at the new address. C code uses the lock by shm_lock
// of shm_shared.h.
type Mutex struct{ mutex }

// NewMutex makes a lock at an offset of a Shared mapping, or finds the lock that
// is there. The offset must be a multiple of [Align]. The [MutexSize] bytes must
// be zero, or such a lock. If they are something else, the error wraps [ErrKind].
func NewMutex(m *shm.Mapping, off int) (*Mutex, error) {
	l := new(Mutex)
	if err := l.open(m, off); err != nil {
		return nil, &Error{"mutex", off, err}
	}
	return l, nil
}

// Lock waits until this process holds the lock. The result is
//
//   - nil: the lock is held.
//   - [ErrOwnerDied]: the lock is held, and its last owner died while it held
//     the lock. Mend what the lock guards, and call Consistent.
//   - [ErrNotRecoverable]: the lock can never be held again.
//   - [ErrTooMany]: this process holds too many locks at once.
//   - ctx's error: the lock is not held by the caller.
//
// A goroutine that waits holds no thread, except for the first 50 microseconds.
// Goroutines are no owners. So a goroutine that calls Lock twice waits for
// itself until ctx ends, as with [sync.Mutex]. A thread of C gets EDEADLK.
func (l *Mutex) Lock(ctx context.Context) error { return l.lock(ctx) }

// TryLock is Lock without waiting. If the lock is held, the error is [ErrLocked].
func (l *Mutex) TryLock() error { return l.tryLock() }

// Consistent says that what the lock guards is good again, after Lock returned
// [ErrOwnerDied]. If this process does not hold the lock, the error is
// [ErrNotHeld].
func (l *Mutex) Consistent() error { return l.consistent() }

// Unlock releases the lock. After [ErrOwnerDied] without Consistent, the lock is
// not recoverable from then on, for all processes. If this process does not hold
// the lock, the error is [ErrNotHeld].
func (l *Mutex) Unlock() error { return l.unlock() }
