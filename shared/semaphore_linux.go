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
	return err
}

func (s *semaphore) acquire(ctx context.Context) error {
	h, err := hold(s.lock.where)
	if err != nil {
		return err
	}
	take := func() bool { return s.take(h) }
	if take() {
		return nil
	}
	if err := s.gate.wait(ctx, take); err != nil {
		h.release()
		return err
	}
	return nil
}

func (s *semaphore) tryAcquire() error {
	h, err := hold(s.lock.where)
	if err == nil && !s.take(h) {
		h.release()
		err = ErrLocked
	}
	return err
}

func (s *semaphore) enter(owner uint32) {
	if s.room.enter(owner) {
		s.words.used = countHeld(s.lock.where, heldUnit)
	}
}

// take takes a unit if there is one.
func (s *semaphore) take(h holding) bool {
	s.enter(h.owner)
	defer s.leave()
	if s.words.used >= s.words.limit {
		return false
	}
	h.set(heldUnit)
	s.words.used++
	return true
}

func (s *semaphore) release() error {
	h, ok := findSet(s.lock.where, heldUnit)
	if !ok {
		return ErrNotHeld
	}
	s.enter(h.owner)
	if h, ok = findSet(s.lock.where, heldUnit); ok { // another goroutine may have been first
		h.set(heldNothing)
		s.words.used--
	}
	s.leave()
	if !ok {
		return ErrNotHeld
	}
	s.gate.wake()
	h.release()
	return nil
}
