//go:build cgo

package shared

import (
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm/internal/hook"
)

// menders mend a structure of a kind that a dead process has named in its slot. The process may have
// held it or not, or may have died at any instruction of an operation. Whoever else uses the
// structure goes on meanwhile. A mender changes only what the owner has, wakes whoever may wait, and
// trusts nothing that it reads. memory is the mapping's, from the structure's beginning on.
var menders = map[uint32]func(memory []byte, owner uint32, s *slot){}

func init() {
	hook.NewOwner = func() uint32 {
		if familyErr != nil {
			return 0
		}
		return takeOwner(slotGiven)
	}
	hook.OwnerEnded = func(owner uint32) {
		if s := slotOf(owner); s != nil {
			mend(s, owner)
			if atomic.LoadUint32(&s.more) != 0 {
				mendMore(owner)
			}
			freeOwner(owner)
		}
	}
}

// mendMore mends what the other slots of a dead process name.
func mendMore(owner uint32) {
	for other := uint32(1); other <= slots; other++ {
		if s := slotOf(other); other != owner && atomic.LoadUint32(&s.of) == owner {
			mend(s, other)
			freeOwner(other)
		}
	}
}

// mend mends all that a dead process has named in its slot.
func mend(s *slot, owner uint32) {
	for i := range s.held {
		where := atomic.SwapUint64(&s.held[i], 0) // a recount must not find what the process had
		if where == 0 {
			continue
		}
		number, off := placeOf(where &^ heldMask)
		m := mappingOf(number)
		if m == nil {
			continue // the mapping is closed, or no process numbered it
		}
		hook.View(m, func(addr unsafe.Pointer, length int) {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer ignoreFault()
			mendAt(unsafe.Slice((*byte)(addr), length), off, owner, s)
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

// mendAt mends the structure at the offset, if there is one.
func mendAt(memory []byte, off uint64, owner uint32, s *slot) {
	if off%Align != 0 || off > uint64(len(memory)) || len(memory)-int(off) < Align {
		return
	}
	memory = memory[off:]
	kind := atomic.LoadUint32(&(*head)(unsafe.Pointer(unsafe.SliceData(memory))).kind)
	if mender := menders[kind]; mender != nil {
		mender(memory, owner, s)
	}
}
