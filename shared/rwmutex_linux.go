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
	l.recount = l.countAnew
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
	ctx context.Context
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
	t := &rwTry{ctx: ctx, rwmutex: l, rwWay: way, h: h}
	if !t.try(true) {
		if err := l.gate.wait(ctx, func() bool { return t.try(true) }); err != nil {
			t.giveUp()
			t.err = err
		}
	}
	return t.settle()
}

func (l *rwmutex) tryLockBy(way rwWay) error {
	h, err := hold(l.room.lock.where)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	t := &rwTry{ctx: ctx, rwmutex: l, rwWay: way, h: h, err: ErrLocked}
	if t.try(false); t.err != nil && t.err == ctx.Err() {
		t.err = ErrLocked
	}
	return t.settle()
}

// settle clears the place if the lock is not held.
func (t *rwTry) settle() error {
	if t.err != nil && t.err != ErrOwnerDied {
		t.h.release()
	}
	return t.err
}

// countAnew counts after a death. A writer without a place was a writer that died.
func (l *rwmutex) countAnew() {
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
	if err := t.enter(t.ctx, t.h.owner); err != nil {
		t.giveUp()
		t.err = err
		return true
	}
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
	if !t.waits {
		return
	}
	t.waits = false
	t.end(t.h, func() {
		t.h.set(heldNothing)
		*t.waiting(t.rwWay)--
		t.words.admitted = min(t.words.admitted, t.words.waitingReaders)
	})
}

func (l *rwmutex) unlockBy(way rwWay) error {
	where := l.room.lock.where
	h, ok := findSet(where, way.has)
	if !ok {
		return ErrNotHeld
	}
	l.end(h, func() {
		if h, ok = findSet(where, way.has); ok { // another goroutine may have been first
			l.unlocked(way)
			h.set(heldNothing)
		}
	})
	if !ok {
		return ErrNotHeld
	}
	h.release()
	return nil
}

// unlocked notes the end of a read or a write, in the room.
func (l *rwmutex) unlocked(way rwWay) {
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
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	if err := l.enter(ctx, h.owner); err != nil {
		return err
	}
	l.words.state &^= rwDied
	l.leave()
	return nil
}
