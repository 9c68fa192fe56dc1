//go:build cgo

package shared

import (
	"slices"
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
	slots atomic.Pointer[[]*ownSlot] // the first is also that of the process's C code
}

// ownSlot is a slot of this process.
type ownSlot struct {
	*slot
	owner uint32
	got   [held]atomic.Bool // whether a goroutine holds what the place names
}

// maxOwnSlots is how many slots a Go process can have. It takes one after another, as it needs them.
const maxOwnSlots = 64

var self atomic.Pointer[process]

// own returns this process, or nil if the table of owners is full.
func own() *process {
	if p := self.Load(); p != nil && p.token == hook.ProcessToken() {
		return p
	}
	return newOwn()
}

func newOwn() *process {
	old, token, owner := self.Load(), hook.ProcessToken(), ownSelf()
	if owner == 0 {
		return nil
	}
	p := &process{token: token}
	p.slots.Store(&[]*ownSlot{{slot: slotOf(owner), owner: owner}})
	if !self.CompareAndSwap(old, p) { // another goroutine was first
		return own()
	}
	return p
}

// extend takes another slot. It fails if the process has as many as it can have.
func (p *process) extend(seen *[]*ownSlot) error {
	if len(*seen) == maxOwnSlots {
		return ErrTooMany
	}
	owner := takeOwner(slotTaken)
	s := slotOf(owner)
	if s == nil {
		return ErrTooMany
	}
	first := (*seen)[0]
	atomic.StoreUint32(&s.of, first.owner)
	atomic.StoreUint32(&first.more, 1)
	more := append(slices.Clone(*seen), &ownSlot{slot: s, owner: owner})
	if !p.slots.CompareAndSwap(seen, &more) { // another goroutine was first
		freeOwner(owner)
	}
	return nil
}

// slotOf returns an owner's slot, or nil if there is no such owner.
func slotOf(owner uint32) *slot {
	if owner == 0 || owner > slots {
		return nil
	}
	return &family.slot[owner-1]
}

// holding is a place in a slot of this process that names a structure.
type holding struct {
	*ownSlot
	i int // of the place
}

func (h holding) place() *uint64 { return &h.held[h.i] }

// hold names a structure in a slot of this process, before the structure is changed.
func hold(where uint64) (holding, error) {
	p := own()
	if p == nil {
		return holding{}, ErrTooMany
	}
	for {
		all := p.slots.Load()
		for _, s := range *all {
			if h, ok := s.take(where); ok {
				return h, nil
			}
		}
		if err := p.extend(all); err != nil {
			return holding{}, err
		}
	}
}

// take names a structure in the slot, if there is room.
func (s *ownSlot) take(where uint64) (holding, bool) {
	for i := range s.held {
		place := &s.held[i]
		if atomic.LoadUint64(place) == 0 && atomic.CompareAndSwapUint64(place, 0, where) {
			return holding{s, i}, true
		}
	}
	return holding{}, false
}

// findHeld returns the place of a structure that a goroutine of this process holds.
func findHeld(where uint64) (holding, bool) {
	p := own()
	if p == nil {
		return holding{}, false
	}
	for _, s := range *p.slots.Load() {
		for i := range s.held {
			if s.got[i].Load() && atomic.LoadUint64(&s.held[i]) == where {
				return holding{s, i}, true
			}
		}
	}
	return holding{}, false
}

// keep notes that this process holds what the place names, until release.
func (h holding) keep() { h.got[h.i].Store(true) }

// give says that this process will not hold what the place names any more. It is called before the
// structure is given away: another goroutine may hold it an instant later, by another place. give
// returns false if another goroutine was first.
func (h holding) give() bool { return h.got[h.i].CompareAndSwap(true, false) }

// release clears the place, after the last change of the structure.
func (h holding) release() { atomic.StoreUint64(h.place(), 0) }

// set says what this process has of the structure that the place names.
func (h holding) set(what uint64) {
	atomic.StoreUint64(h.place(), atomic.LoadUint64(h.place())&^heldMask|what)
}

// findSet returns a place where this process has what is said of a structure.
func findSet(where, what uint64) (holding, bool) {
	p := own()
	if p == nil {
		return holding{}, false
	}
	for _, s := range *p.slots.Load() {
		for i := range s.held {
			if atomic.LoadUint64(&s.held[i]) == where|what {
				return holding{s, i}, true
			}
		}
	}
	return holding{}, false
}

// countHeld returns how many places of all processes have what is said of a structure.
func countHeld(where, what uint64) (n uint32) {
	for i := range family.slot {
		s := &family.slot[i]
		if atomic.LoadUint32(&s.state) == slotFree {
			continue
		}
		for j := range s.held {
			if atomic.LoadUint64(&s.held[j]) == where|what {
				n++
			}
		}
	}
	return n
}
