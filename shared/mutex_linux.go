//go:build cgo

package shared

import (
	"context"
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"forkshm.example/shm"
)

// mutex is the lock of csrc/mutex.c.
type mutex struct {
	structure
	word  *uint32
	turns turns
}

func init() { menders[kindMutex] = mendMutex }

func (l *mutex) open(m *shm.Mapping, off int) (err error) {
	l.structure, err = openStructure(m, off, kindMutex, MutexSize, func(unsafe.Pointer) {})
	if err == nil {
		l.word = &(*mutexWords)(l.addr).word
	}
	return err
}

func (l *mutex) lock(ctx context.Context) error {
	if atomic.LoadUint32(l.word) == 0 {
		h, err := hold(l.where)
		if err != nil {
			return err
		}
		if atomic.CompareAndSwapUint32(l.word, 0, h.owner) {
			h.keep()
			raceAcquire(l.where)
			return nil
		}
		h.release()
	}
	return l.waitAndTake(ctx)
}

// waitAndTake waits for this goroutine's turn among those of this process, and then for the lock.
func (l *mutex) waitAndTake(ctx context.Context) error {
	turn, err := l.turns.take(ctx)
	if err != nil {
		return err
	}
	defer turn.end()
	h, err := hold(l.where)
	if err != nil {
		return err
	}
	return l.settle(h, l.wait(ctx, h.owner))
}

// settle ends an attempt to lock. The place in the slot stays if the lock is held.
func (l *mutex) settle(h holding, err error) error {
	if err != nil && err != ErrOwnerDied {
		h.release()
		return err
	}
	h.keep()
	raceAcquire(l.where)
	return err
}

// wait waits until the owner has the lock.
func (l *mutex) wait(ctx context.Context, owner uint32) error {
	deadline := time.Now().Add(futexTime)
	for rounds := 0; ; rounds++ {
		word, err := l.take(owner, rounds > 0)
		if err != ErrLocked {
			return err
		}
		byFutex := time.Now().Before(deadline)
		next := word | mutexBell
		if byFutex {
			next = word | mutexFutex
		}
		if rounds >= mutexPatience {
			next |= mutexStarving
		}
		if err := ctx.Err(); err != nil {
			return l.giveUp(err)
		}
		if next != word && !atomic.CompareAndSwapUint32(l.word, word, next) {
			continue
		}
		if byFutex {
			futexWait(l.word, next, futexTime)
		} else if err := bellWait(ctx, l.word, next); err != nil {
			return l.giveUp(err)
		}
	}
}

// take takes the lock if it is free. If it is not, the error is ErrLocked. A waiter may take a lock
// for which others starve, and one that comes anew may not.
func (l *mutex) take(owner uint32, hasWaited bool) (word uint32, err error) {
	for {
		word = atomic.LoadUint32(l.word)
		switch {
		case word&mutexLost != 0:
			return word, ErrNotRecoverable
		case word&mutexOwner != 0, word&mutexStarving != 0 && !hasWaited:
			return word, ErrLocked
		}
		if !atomic.CompareAndSwapUint32(l.word, word, word&^mutexStarving|owner) {
			continue
		}
		if word&mutexDied != 0 {
			return word, ErrOwnerDied
		}
		return word, nil
	}
}

// giveUp ends a wait without the lock. If the waiter was the one that starves, or if it was woken
// just now, others go on.
func (l *mutex) giveUp(err error) error {
	word := atomic.AndUint32(l.word, ^uint32(mutexStarving))
	if word&mutexOwner == 0 {
		l.wake(word&(mutexFutex|mutexBell), 1)
	}
	return err
}

func (l *mutex) tryLock() error {
	h, err := hold(l.where)
	if err != nil {
		return err
	}
	_, err = l.take(h.owner, false)
	return l.settle(h, err)
}

func (l *mutex) consistent() error {
	if _, ok := l.held(); !ok {
		return ErrNotHeld
	}
	atomic.AndUint32(l.word, ^uint32(mutexDied))
	return nil
}

// held returns the place of the lock if this process holds it.
func (l *mutex) held() (holding, bool) {
	h, ok := findHeld(l.where)
	return h, ok && atomic.LoadUint32(l.word)&mutexOwner == h.owner
}

func (l *mutex) unlock() error {
	h, ok := l.held()
	if !ok || !h.give() {
		return ErrNotHeld
	}
	raceRelease(l.where)
	word := h.owner
	for !atomic.CompareAndSwapUint32(l.word, word, released(word)) {
		if word = atomic.LoadUint32(l.word); word&mutexOwner != h.owner { // a hostile process wrote to it
			break
		}
	}
	if word&(mutexFutex|mutexBell) != 0 {
		n := 1
		if word&mutexDied != 0 {
			n = math.MaxInt32 // nobody can have the lock again
		}
		l.wake(word, n)
	}
	h.release()
	return nil
}

// released returns the word of the lock after its owner has released it.
func released(word uint32) uint32 {
	next := word & (mutexFutex | mutexStarving | mutexLost)
	if word&mutexDied != 0 {
		next |= mutexLost
	}
	return next
}

// wake wakes n threads, and the goroutine of each process that waits. A thread that was not asleep
// yet when there was none to wake finds the word changed.
func (l *mutex) wake(word uint32, n int) {
	if word&mutexFutex != 0 && futexWake(l.word, n) == 0 {
		atomic.CompareAndSwapUint32(l.word, mutexFutex, 0)
	}
	if word&mutexBell != 0 {
		ring()
	}
}

// mendMutex takes the lock from an owner that died, and wakes who waits: the owner may have died
// after it released the lock and before it woke anybody, or after it was woken itself.
func mendMutex(d death) {
	word := &(*mutexWords)(d.at()).word
	var seen uint32
	for {
		seen = atomic.LoadUint32(word)
		next := seen &^ (mutexStarving | mutexBell)
		if seen&mutexOwner == d.owner {
			next = next&^mutexOwner | mutexDied
		}
		if atomic.CompareAndSwapUint32(word, seen, next) {
			break
		}
	}
	n := 1
	if seen&mutexLost != 0 {
		n = math.MaxInt32
	}
	futexWake(word, n)
	ring()
}
