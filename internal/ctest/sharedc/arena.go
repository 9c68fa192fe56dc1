//go:build linux && cgo

package sharedc

/*
#include "arena.h"
*/
import "C"

import (
	"unsafe"

	"forkshm.example/shm"
)

// ArenaActs is a child that does what ArenaSite says.
var ArenaActs = shm.ChildFunc(C.child_arena_acts)

// These constants are enum arena_op.
const (
	ArenaAlloc  = C.ARENA_ALLOC
	ArenaFree   = C.ARENA_FREE
	ArenaRandom = C.ARENA_RANDOM
	ArenaTrace  = C.ARENA_TRACE
	ArenaStop   = C.ARENA_STOP
	ArenaPause  = C.ARENA_PAUSE

	ArenaTake = C.ARENA_TAKE
	ArenaGive = C.ARENA_GIVE
	ArenaLock = C.ARENA_LOCK

	ArenaLockOffset = C.ARENA_LOCK_OFFSET
	ArenaOffset     = C.ARENA_OFFSET
)

// ArenaAct is struct arena_act.
type ArenaAct struct {
	Op, I, Size uint32
	Result      int32
}

// ArenaSite is struct arena_site.
type ArenaSite struct {
	Ref     [C.ARENA_REFS]uint64
	Size    [C.ARENA_REFS]uint32
	Done, _ uint32
	Act     [C.ARENA_ACTS]ArenaAct
}

// The struct is as large as in C, and lies before the arena: another index than 0 does not compile.
var _ = [1]struct{}{}[unsafe.Sizeof(ArenaSite{})-C.sizeof_struct_arena_site]

// ArenaLoop allocates and frees n times in C. The site is an ArenaSite.
func ArenaLoop(site unsafe.Pointer, size int, to *uint64, n int) error {
	return result(C.loop_arena((*C.shm_arena)(unsafe.Add(site, ArenaOffset)), C.size_t(size), (*C.uint64_t)(to), C.long(n)))
}

// MallocLoop is ArenaLoop by malloc(3).
func MallocLoop(size, n int) error { return result(C.loop_malloc(C.size_t(size), C.long(n))) }

// ArenaClass returns what C says of a size class: units, blocks, first, size.
func ArenaClass(class uint32) (c [4]uint64) {
	C.arena_class(C.uint32_t(class), (*C.uint64_t)(&c[0]))
	return c
}

// ArenaClassFor returns the class that C has for a size.
func ArenaClassFor(size uint64) uint32 { return uint32(C.arena_class_for(C.uint64_t(size))) }
