//go:build cgo

package shared

import (
	"context"
	"unsafe"

	"forkshm.example/shm"
)

// rwmutex is csrc/rwmutex.c.
type rwmutex struct {
	room
	words *rwmutexWords
}

func init() { menders[kindRWMutex] = mendRoom }

func (l *rwmutex) open(m *shm.Mapping, off int) error {
	addr, err := l.room.open(m, off, kindRWMutex, func(unsafe.Pointer) {})
	l.words = (*rwmutexWords)(addr)
	return err
}

// rwWay is what a reader and a writer do differently.
type rwWay struct{ has, waits uint64 }

var (
	reads  = rwWay{heldRead, heldWaitsToRead}
	writes = rwWay{heldWrite, heldWaitsToWrite}
)

// rwTry is an attempt to lock.
type rwTry struct {
	*rwmutex
	rwWay
	h     holding
	waits bool // whether the place says so
	err   error
}

func (l *rwmutex) lockBy(ctx context.Context, way rwWay) error {
	h, err := hold(l.room.lock.where)
	if err != nil {
		return err
	}
	t := &rwTry{rwmutex: l, rwWay: way, h: h}
	if !t.try(true) {
		if err := l.gate.wait(ctx, func() bool { return t.try(true) }); err != nil {
			t.giveUp()
			t.err = err
		}
	}
	return t.end()
}

func (l *rwmutex) tryLockBy(way rwWay) error {
	h, err := hold(l.room.lock.where)
	if err != nil {
		return err
	}
	t := &rwTry{rwmutex: l, rwWay: way, h: h, err: ErrLocked}
	t.try(false)
	return t.end()
}

// end clears the place if the lock is not held.
func (t *rwTry) end() error {
	if t.err != nil && t.err != ErrOwnerDied {
		t.h.release()
	}
	return t.err
}

func (l *rwmutex) enter(owner uint32) {
	if l.room.enter(owner) {
		l.recount()
	}
}

// recount counts anew after a death. A writer without a place was a writer that died.
func (l *rwmutex) recount() {
	where, w := l.room.lock.where, l.words
	w.readers = countHeld(where, heldRead)
	w.waitingReaders = countHeld(where, heldWaitsToRead)
	w.waitingWriters = countHeld(where, heldWaitsToWrite)
	w.admitted = min(w.admitted, w.waitingReaders)
	if w.writer != 0 && countHeld(where, heldWrite) == 0 {
		w.state |= rwDied
		w.writer = 0
	}
}

func (l *rwmutex) waiting(way rwWay) *uint32 {
	if way == reads {
		return &l.words.waitingReaders
	}
	return &l.words.waitingWriters
}

// mayEnter says whether the lock can be had. A writer comes before readers that come anew. Readers
// that waited for a writer come before the next writer.
func (l *rwmutex) mayEnter(way rwWay) bool {
	w := l.words
	if way == reads {
		return w.writer == 0 && (w.waitingWriters == 0 || w.admitted > 0)
	}
	return w.writer == 0 && w.readers == 0 && w.admitted == 0
}

// try takes the lock, or notes in the place that the place waits. It returns false if it must be
// called again.
func (t *rwTry) try(waits bool) bool {
	t.enter(t.h.owner)
	defer t.leave()
	lost, may := t.words.state&rwLost != 0, t.mayEnter(t.rwWay)
	if t.waits && (lost || may) {
		*t.waiting(t.rwWay)--
		t.waits = false
	}
	switch {
	case lost:
		t.err = ErrNotRecoverable
	case may:
		t.grant()
	case waits && !t.waits:
		t.h.set(t.rwWay.waits)
		*t.waiting(t.rwWay)++
		t.waits = true
	}
	return lost || may
}

func (t *rwTry) grant() {
	t.h.set(t.has)
	if t.rwWay == writes {
		t.words.writer = t.h.owner
	} else {
		t.words.readers++
		t.words.admitted -= min(t.words.admitted, 1)
	}
	t.err = nil
	if t.words.state&rwDied != 0 {
		t.err = ErrOwnerDied
	}
}

// giveUp ends a wait without the lock.
func (t *rwTry) giveUp() {
	t.enter(t.h.owner)
	t.h.set(heldNothing)
	if t.waits {
		*t.waiting(t.rwWay)--
	}
	t.words.admitted = min(t.words.admitted, t.words.waitingReaders)
	t.leave()
	t.gate.wake()
}

func (l *rwmutex) unlockBy(way rwWay) error {
	where := l.room.lock.where
	h, ok := findSet(where, way.has)
	if !ok {
		return ErrNotHeld
	}
	l.enter(h.owner)
	if h, ok = findSet(where, way.has); ok { // another goroutine may have been first
		l.end(way)
		h.set(heldNothing)
	}
	l.leave()
	if !ok {
		return ErrNotHeld
	}
	l.gate.wake()
	h.release()
	return nil
}

// end ends a read or a write, in the room.
func (l *rwmutex) end(way rwWay) {
	w := l.words
	if way == reads {
		w.readers--
		return
	}
	if w.state&rwDied != 0 {
		w.state |= rwLost
	}
	w.admitted = w.waitingReaders
	w.writer = 0
}

func (l *rwmutex) consistent() error {
	h, ok := findSet(l.room.lock.where, heldWrite)
	if !ok {
		return ErrNotHeld
	}
	l.enter(h.owner)
	l.words.state &^= rwDied
	l.leave()
	return nil
}
