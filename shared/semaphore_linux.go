//go:build cgo

package shared

import (
	"context"
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm"
)

// semaphore is csrc/semaphore.c.
type semaphore struct {
	room
	words *semaphoreWords
}

func init() { menders[kindSemaphore] = mendRoom }

func (s *semaphore) open(m *shm.Mapping, off, n int) error {
	if err := checkCount(n); err != nil {
		return err
	}
	addr, err := s.room.open(m, off, kindSemaphore, func(addr unsafe.Pointer) {
		atomic.CompareAndSwapUint32(&(*semaphoreWords)(addr).limit, 0, uint32(n))
	})
	s.words = (*semaphoreWords)(addr)
	s.recount = func() { s.words.used = countHeld(s.lock.where, heldUnit) }
	return err
}

func (s *semaphore) acquire(ctx context.Context) error {
	h, err := hold(s.lock.where)
	if err != nil {
		return err
	}
	failed := error(nil)
	taken := func() (done bool) {
		done, failed = s.take(ctx, h)
		return done || failed != nil
	}
	if !taken() {
		if err := s.gate.wait(ctx, taken); err != nil {
			failed = err
		}
	}
	if failed != nil {
		h.release()
	}
	return failed
}

func (s *semaphore) tryAcquire() error {
	h, err := hold(s.lock.where)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	if taken, err := s.take(ctx, h); err != nil || !taken {
		h.release()
		return ErrLocked
	}
	return nil
}

// take takes a unit if there is one.
func (s *semaphore) take(ctx context.Context, h holding) (bool, error) {
	if err := s.enter(ctx, h.owner); err != nil {
		return false, err
	}
	defer s.leave()
	if s.words.used >= s.words.limit {
		return false, nil
	}
	h.set(heldUnit)
	s.words.used++
	return true, nil
}

func (s *semaphore) release() error {
	h, ok := findSet(s.lock.where, heldUnit)
	if !ok {
		return ErrNotHeld
	}
	s.end(h, func() {
		if h, ok = findSet(s.lock.where, heldUnit); ok { // another goroutine may have been first
			h.set(heldNothing)
			s.words.used--
		}
	})
	if !ok {
		return ErrNotHeld
	}
	h.release()
	return nil
}
