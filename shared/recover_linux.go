//go:build cgo

package shared

import (
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm/internal/hook"
)

// death is what a mender knows: a process has died that has named a structure in its slot.
type death struct {
	mapping []byte // the memory of the structure's mapping
	off     int    // where the structure is in the mapping
	owner   uint32
	named   uint64 // the structure's name, and what the process had of the structure
	place   int    // of the name in the slot
	note    *note  // that belongs to the place
	result  error  // what Wait returns for the process
}

// at returns the structure's address.
func (d death) at() unsafe.Pointer { return unsafe.Pointer(&d.mapping[d.off]) }

// menders mend a structure of a kind that a dead process has named in its slot. The process may have
// held it or not, or may have died at any instruction of an operation. Whoever else uses the
// structure goes on meanwhile. A mender changes only what the owner has, wakes whoever may wait, and
// trusts nothing that it reads.
var menders = map[uint32]func(d death){}

func init() {
	hook.NewOwner = func() uint32 {
		if familyErr != nil {
			return 0
		}
		return takeOwner(slotGiven)
	}
	hook.OwnerEnded = ended
}

// ended mends all that a dead process has named, and frees its slots. Locks are the last: who holds a
// lock finds whole what the lock guards. The names of all locks are cleared before the first of them is
// mended: that wakes others, and who counts anew must not find what the process had.
func ended(owner uint32, result error) {
	all := estatesOf(owner, result)
	for i := range all {
		all[i].mend(false)
	}
	for i := range all {
		all[i].clear()
	}
	for i := range all {
		all[i].mend(true)
	}
	for i := range all {
		freeOwner(all[i].owner)
	}
}

// estate is what a dead process has named in a slot.
type estate struct {
	*slot
	owner  uint32
	names  [held]uint64
	result error // what Wait returns for the process
}

// estatesOf returns what a dead process has named in all its slots.
func estatesOf(owner uint32, result error) (all []estate) {
	first := slotOf(owner)
	if first == nil {
		return nil
	}
	all = append(all, first.estate(owner, result))
	if atomic.LoadUint32(&first.more) == 0 {
		return all
	}
	for other := uint32(1); other <= slots; other++ {
		if s := slotOf(other); other != owner && atomic.LoadUint32(&s.of) == owner {
			all = append(all, s.estate(other, result))
		}
	}
	return all
}

func (s *slot) estate(owner uint32, result error) estate {
	e := estate{slot: s, owner: owner, result: result}
	for i := range e.names {
		e.names[i] = atomic.LoadUint64(&s.held[i])
	}
	return e
}

// clear clears the slot's names. The estate keeps them.
func (e *estate) clear() {
	for i := range e.held {
		atomic.StoreUint64(&e.held[i], 0)
	}
}

// mend mends the locks that the slot named, or all else.
func (e *estate) mend(locks bool) {
	for i, where := range e.names {
		number, off := placeOf(where &^ heldMask)
		m := mappingOf(number)
		if where == 0 || m == nil { // m is nil if it is closed, or if no process numbered it
			continue
		}
		hook.View(m, func(addr unsafe.Pointer, length int) {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer ignoreFault()
			if off%Align == 0 && off < uint64(length) && uint64(length)-off >= Align {
				d := death{unsafe.Slice((*byte)(addr), length), int(off), e.owner, where, i, &e.note[i], e.result}
				d.mend(&e.held[i], locks)
			}
		})
	}
}

// ignoreFault ends a panic for memory that fails: the child has cut the object short, for example.
func ignoreFault() {
	e := recover()
	if _, isFault := e.(interface{ Addr() uintptr }); e != nil && !isFault {
		panic(e)
	}
}

// mend mends the structure, if there is one, and if it is a lock or not, as asked. An arena's name is
// cleared last: who finds a block that the process was about to take or to free must find why.
func (d death) mend(name *uint64, locks bool) {
	kind := atomic.LoadUint32(&(*head)(d.at()).kind)
	mender := menders[kind]
	if mender == nil || locks == (kind == kindArena) {
		return
	}
	mender(d)
	if !locks {
		atomic.StoreUint64(name, 0)
	}
}
