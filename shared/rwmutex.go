package shared

import (
	"context"

	"forkshm.example/shm"
)

// RWMutex is a lock in shared memory that one process holds for writing, or
// several for reading. Its owners are processes, as those of a [Mutex].
//
// A writer that waits comes before readers that come later. The readers that
// wait while another writes come before the next writer. So neither starves.
//
// If a process ends while it reads, nothing is lost. If it ends while it writes,
// those that lock afterwards get [ErrOwnerDied], readers as well, until a writer
// calls Consistent. C code uses shm_rdlock and shm_wrlock of shm_shared.h.
type RWMutex struct{ rwmutex }

// NewRWMutex makes a lock, or finds the one that is there. The offset and the
// [RWMutexSize] bytes are as for [NewMutex].
func NewRWMutex(m *shm.Mapping, off int) (*RWMutex, error) {
	l := new(RWMutex)
	if err := l.open(m, off); err != nil {
		return nil, &Error{"rwmutex", off, err}
	}
	return l, nil
}

// Lock waits until this process writes. The result is as that of [Mutex.Lock].
func (l *RWMutex) Lock(ctx context.Context) error { return l.lockBy(ctx, writes) }

// RLock waits until this process reads. The result is as that of [Mutex.Lock].
// After ErrOwnerDied, what the lock guards may be changed in part: call RUnlock,
// and Lock to mend it.
func (l *RWMutex) RLock(ctx context.Context) error { return l.lockBy(ctx, reads) }

// TryLock is Lock without waiting. If the lock is held, the error is [ErrLocked].
func (l *RWMutex) TryLock() error { return l.tryLockBy(writes) }

// TryRLock is RLock without waiting. If the lock cannot be had, the error is
// [ErrLocked].
func (l *RWMutex) TryRLock() error { return l.tryLockBy(reads) }

// Consistent says that what the lock guards is good again, after Lock returned
// [ErrOwnerDied]. If this process does not write, the error is [ErrNotHeld].
func (l *RWMutex) Consistent() error { return l.consistent() }

// Unlock ends a write. After [ErrOwnerDied] without Consistent, the lock is not
// recoverable from then on. If this process does not write, the error is
// [ErrNotHeld].
func (l *RWMutex) Unlock() error { return l.unlockBy(writes) }

// RUnlock ends a read. If this process does not read, the error is [ErrNotHeld].
func (l *RWMutex) RUnlock() error { return l.unlockBy(reads) }
