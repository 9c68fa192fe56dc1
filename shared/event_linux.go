//go:build cgo

package shared

import (
	"context"
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm"
)

// event is csrc/event.c.
type event struct {
	structure
	words *eventWords
}

func init() {
	menders[kindEvent] = func(d death) { (*eventWords)(d.at()).gate.wakeAll() }
}

func (e *event) open(m *shm.Mapping, off int) (err error) {
	e.structure, err = openStructure(m, off, kindEvent, EventSize, func(unsafe.Pointer) {})
	e.words = (*eventWords)(e.addr)
	return err
}

func (e *event) isSet() bool {
	if atomic.LoadUint32(&e.words.set) == 0 {
		return false
	}
	raceAcquire(e.where)
	return true
}

func (e *event) wait(ctx context.Context) error {
	if e.isSet() {
		return nil
	}
	return e.words.gate.wait(ctx, e.isSet)
}

func (e *event) set() {
	raceRelease(e.where)
	h, err := hold(e.where) // without a place, waiters see the change within a second of a death
	atomic.StoreUint32(&e.words.set, 1)
	e.words.gate.wake()
	if err == nil {
		h.release()
	}
}

func (e *event) reset() { atomic.StoreUint32(&e.words.set, 0) }
