//go:build cgo

package shared

import (
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"
)

// arena is csrc/arena.c. csrc/arena.h has the rules.
type arena struct {
	room
	words *arenaWords
	max   uint32 // as words.max, which a process may write to

	extent atomic.Uint64 // how many bytes of the mapping this process knows to be there
}

// extend has the arena use the mapping up to its length, which the mapping has already. The mapping can
// grow up to its capacity.
func (a *arena) extend(extent, capacity int) {
	a.reach(uint64(extent))
	raise(&a.words.limit, uint32(min((capacity-a.lock.off)/arenaUnit, int(a.max))))
	raise(&a.words.units, a.unitsHere())
}

// reach notes that the mapping has so many bytes. It never shrinks, and another goroutine may have seen
// more of them meanwhile.
func (a *arena) reach(extent uint64) {
	for seen := a.extent.Load(); seen < extent && !a.extent.CompareAndSwap(seen, extent); {
		seen = a.extent.Load()
	}
}

// raise makes the word value, if it is less.
func raise(word *uint32, value uint32) {
	for seen := atomic.LoadUint32(word); seen < value; seen = atomic.LoadUint32(word) {
		if atomic.CompareAndSwapUint32(word, seen, value) {
			return
		}
	}
}

// unitsHere returns how many units of the arena lie in the mapping.
func (a *arena) unitsHere() uint32 {
	return uint32(min((a.extent.Load()-uint64(a.lock.off))/arenaUnit, uint64(a.max)))
}

func (a *arena) mapping() *shm.Mapping { return a.lock.m }

// view returns the arena's memory.
func (a *arena) view() arenaView {
	units := atomic.LoadUint32(&a.words.units)
	if units > a.unitsHere() {
		a.lookAgain()
	}
	return arenaView{a.words, a.max, min(units, a.unitsHere())}
}

// lookAgain finds out how long the mapping is: another Arena may have made it grow.
func (a *arena) lookAgain() {
	if length, _, err := hook.Grow(a.lock.m, 0, 0); err == nil {
		a.reach(uint64(length))
	}
}

// recountIn ends the making of a chunk when a process died in the room. The view is what this process has
// of the arena. The child of a live fork may have less than others, and leaves that to them.
func (a *arena) recountIn(v arenaView) {
	if v.isShort() {
		atomic.OrUint32(a.lock.word, mutexDied)
		return
	}
	v.mendTable()
}

// at returns the address of size bytes at an offset, or nil.
func (a *arena) at(off uint64, size, align uintptr) unsafe.Pointer {
	length := uint64(a.unitsHere()) * arenaUnit
	if off >= length || uint64(size) > length-off {
		length = uint64(a.view().units) * arenaUnit
		if off >= length || uint64(size) > length-off {
			return nil
		}
	}
	if off == 0 || off%uint64(align) != 0 {
		return nil
	}
	return unsafe.Add(unsafe.Pointer(a.words), off)
}
