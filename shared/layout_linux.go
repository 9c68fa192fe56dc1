//go:build cgo

package shared

// This file declares the structs that Go and C share. csrc/shm_shared.h of package shm and
// csrc/slot.h say who writes which part of them. layout_cgo.go checks at compile time that sizes and
// offsets are the same.

// head is struct shm_head.
type head struct {
	kind   uint32
	family uint32
	where  uint64
	_      uint64
}

// These constants are enum shm_kind.
const (
	kindMutex = 0x6d687301 + iota
	kindRWMutex
	kindSemaphore
	kindEvent
	kindBarrier
	kindRing
	kindArena
)

// gate is struct shm_gate. See gate_linux.go.
type gate struct {
	seq      uint32
	sleepers uint32
}

// These constants are enum shm_sleeper.
const (
	sleepsByFutex = 1 << iota
	sleepsByBell
)

// mutexWords is struct shm_mutex.
type mutexWords struct {
	head
	word uint32
	_    [9]uint32
}

// These constants are the enums of csrc/mutex.h.
const (
	mutexOwner    = 0xffff
	mutexDied     = 1 << 16
	mutexLost     = 1 << 17
	mutexFutex    = 1 << 18
	mutexBell     = 1 << 19
	mutexStarving = 1 << 20

	mutexPatience = 4
)

// roomWords is struct shm_room.
type roomWords struct {
	head
	word uint32
	gate gate
	_    uint32
}

const roomSize = 64 // the size of each structure that has a room

// semaphoreWords is struct shm_semaphore.
type semaphoreWords struct {
	roomWords
	limit, used uint32
	_           [4]uint32
}

// eventWords is struct shm_event.
type eventWords struct {
	head
	set  uint32
	gate gate
	_    [7]uint32
}

// barrierWords is struct shm_barrier.
type barrierWords struct {
	roomWords
	parties, arrived, round uint32
	_                       [3]uint32
}

// rwmutexWords is struct shm_rwmutex.
type rwmutexWords struct {
	roomWords
	state, writer, readers         uint32
	waitingWriters, waitingReaders uint32
	admitted                       uint32
}

// These constants are the flags of rwmutexWords.state, in csrc/room.h.
const (
	rwDied = 1 << iota
	rwLost
)

// These constants are enum shm_held.
const (
	heldNothing = iota
	heldUnit
	heldRead
	heldWrite
	heldWaitsToRead
	heldWaitsToWrite
	heldProduces
	heldConsumes

	heldArrived = 32
	heldMask    = 63
)

const (
	slots = 4096 // SHM_SLOTS
	held  = 16   // SHM_HELD
)

// These constants are enum shm_slot_state.
const (
	slotFree = iota
	slotGiven
	slotTaken
)

// note is struct shm_note.
type note struct {
	block uint64
	to    int64
}

// slot is struct shm_slot.
type slot struct {
	state uint32
	of    uint32
	more  uint32
	_     uint32
	_     [6]uint64
	held  [held]uint64
	note  [held]note
}

// table is struct shm_table.
type table struct {
	family   uint32
	mappings uint32
	wants    uint32
	bell     uint32
	_        [6]uint64
	slot     [slots]slot
}
