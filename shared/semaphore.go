package shared

import (
	"context"

	"forkshm.example/shm"
)

// Semaphore is a number of units in shared memory. Processes take units, and
// give them back. If a process ends, the units that it has are given back. C
// code uses shm_acquire and shm_release of shm_shared.h.
type Semaphore struct{ semaphore }

// NewSemaphore makes a semaphore of n units, or finds the one that is there, which
// keeps its number of units. The offset and the [SemaphoreSize] bytes are as for
// [NewMutex].
func NewSemaphore(m *shm.Mapping, off, n int) (*Semaphore, error) {
	s := new(Semaphore)
	if err := s.open(m, off, n); err != nil {
		return nil, &Error{"semaphore", off, err}
	}
	return s, nil
}

// Acquire waits until this process has one more unit. The error is ctx's, or
// [ErrTooMany].
func (s *Semaphore) Acquire(ctx context.Context) error { return s.acquire(ctx) }

// TryAcquire is Acquire without waiting. If no unit is left, the error is
// [ErrLocked].
func (s *Semaphore) TryAcquire() error { return s.tryAcquire() }

// Release gives a unit back. Any goroutine may do so. If this process has none, the
// error is [ErrNotHeld].
func (s *Semaphore) Release() error { return s.release() }
