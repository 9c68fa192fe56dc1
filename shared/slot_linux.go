//go:build cgo

package shared

import (
	"sync/atomic"

	"forkshm.example/shm/internal/hook"
)

// An owner is a process. Its slot in the table of owners names the structures that the process holds
// or is about to change. Whoever reaps the process reads the slot, and mends these structures: see
// recover_linux.go. csrc/slot.h has the rules.
//
// A structure uses a slot in this way:
//
//	h, err := hold(where)   // before the first change of the structure; ErrTooMany
//	... change the structure; h.owner is what this process is called there
//	h.release()             // after the last change
//
// and an entry of menders, which mends the structure if the process died in between. C has the same
// in slot.h: shm_hold, shm_unhold.

// process is what this process knows of itself. The child of a live fork has a copy, whose token
// tells that it is one.
type process struct {
	token uint64
	owner uint32
	slot  *slot
}

var self atomic.Pointer[process]

// own returns this process, or nil if the table of owners is full.
func own() *process {
	if p := self.Load(); p != nil && p.token == hook.ProcessToken() {
		return p
	}
	return newOwn()
}

func newOwn() *process {
	owner := ownSelf()
	if owner == 0 {
		return nil
	}
	p := &process{hook.ProcessToken(), owner, slotOf(owner)}
	self.Store(p)
	return p
}

// slotOf returns an owner's slot, or nil if there is no such owner.
func slotOf(owner uint32) *slot {
	if owner == 0 || owner > slots {
		return nil
	}
	return &family.slot[owner-1]
}

// holding is a place in this process's slot that names a structure.
type holding struct {
	place *uint64
	owner uint32
}

// hold names a structure in this process's slot, before it is changed.
func hold(where uint64) (holding, error) {
	p := own()
	if p == nil {
		return holding{}, ErrTooMany
	}
	for i := range p.slot.held {
		place := &p.slot.held[i]
		if atomic.LoadUint64(place) == 0 && atomic.CompareAndSwapUint64(place, 0, where) {
			return holding{place, p.owner}, nil
		}
	}
	return holding{}, ErrTooMany
}

// findHeld returns the place where this process has named a structure.
func findHeld(where uint64) (h holding, ok bool) {
	p := own()
	if p == nil {
		return holding{}, false
	}
	for i := range p.slot.held {
		if place := &p.slot.held[i]; atomic.LoadUint64(place) == where {
			return holding{place, p.owner}, true
		}
	}
	return holding{}, false
}

// release clears the place, after the last change of the structure.
func (h holding) release() { atomic.StoreUint64(h.place, 0) }
