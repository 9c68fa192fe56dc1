//go:build linux && cgo

package shared

/*
#include "csrc/room.h"

enum {
	offset_head_where = offsetof(struct shm_head, where),
	offset_gate_sleepers = offsetof(struct shm_gate, sleepers),
	offset_slot_of = offsetof(struct shm_slot, of),
	offset_slot_held = offsetof(struct shm_slot, held),
	offset_slot_note = offsetof(struct shm_slot, note),
	offset_note_to = offsetof(struct shm_note, to),
	offset_room_gate = offsetof(struct shm_room, gate),
	offset_semaphore_used = offsetof(struct shm_semaphore, used),
	offset_event_gate = offsetof(struct shm_event, gate),
	offset_barrier_round = offsetof(struct shm_barrier, round),
	offset_rwmutex_state = offsetof(struct shm_rwmutex, state),
	offset_rwmutex_admitted = offsetof(struct shm_rwmutex, admitted),
	offset_mutex_word = offsetof(struct shm_mutex, word),
	offset_table_mappings = offsetof(struct shm_table, mappings),
	offset_table_wants = offsetof(struct shm_table, wants),
	offset_table_bell = offsetof(struct shm_table, bell),
	offset_table_slot = offsetof(struct shm_table, slot),
};
*/
import "C"

import "unsafe"

// Each line checks that two numbers are equal: another index than 0 does not compile.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(head{})-C.sizeof_struct_shm_head]
	_ = [1]struct{}{}[unsafe.Sizeof(gate{})-C.sizeof_struct_shm_gate]
	_ = [1]struct{}{}[unsafe.Sizeof(slot{})-C.sizeof_struct_shm_slot]
	_ = [1]struct{}{}[unsafe.Sizeof(table{})-C.sizeof_struct_shm_table]

	_ = [1]struct{}{}[unsafe.Offsetof(head{}.where)-C.offset_head_where]
	_ = [1]struct{}{}[unsafe.Offsetof(gate{}.sleepers)-C.offset_gate_sleepers]
	_ = [1]struct{}{}[unsafe.Offsetof(slot{}.of)-C.offset_slot_of]
	_ = [1]struct{}{}[unsafe.Offsetof(slot{}.held)-C.offset_slot_held]
	_ = [1]struct{}{}[unsafe.Offsetof(slot{}.note)-C.offset_slot_note]
	_ = [1]struct{}{}[unsafe.Offsetof(note{}.to)-C.offset_note_to]
	_ = [1]struct{}{}[unsafe.Offsetof(table{}.mappings)-C.offset_table_mappings]
	_ = [1]struct{}{}[unsafe.Offsetof(table{}.wants)-C.offset_table_wants]
	_ = [1]struct{}{}[unsafe.Offsetof(table{}.bell)-C.offset_table_bell]
	_ = [1]struct{}{}[unsafe.Offsetof(table{}.slot)-C.offset_table_slot]

	_ = [1]struct{}{}[MutexSize-C.sizeof_struct_shm_mutex]
	_ = [1]struct{}{}[unsafe.Sizeof(mutexWords{})-C.sizeof_struct_shm_mutex]
	_ = [1]struct{}{}[unsafe.Offsetof(mutexWords{}.word)-C.offset_mutex_word]
	_ = [1]struct{}{}[mutexOwner-C.SHM_MUTEX_OWNER]
	_ = [1]struct{}{}[mutexDied-C.SHM_MUTEX_DIED]
	_ = [1]struct{}{}[mutexStarving-C.SHM_MUTEX_STARVING]
	_ = [1]struct{}{}[mutexPatience-C.SHM_MUTEX_PATIENCE]

	_ = [1]struct{}{}[RWMutexSize-C.sizeof_struct_shm_rwmutex]
	_ = [1]struct{}{}[SemaphoreSize-C.sizeof_struct_shm_semaphore]
	_ = [1]struct{}{}[EventSize-C.sizeof_struct_shm_event]
	_ = [1]struct{}{}[BarrierSize-C.sizeof_struct_shm_barrier]
	_ = [1]struct{}{}[unsafe.Sizeof(roomWords{})-C.sizeof_struct_shm_room]
	_ = [1]struct{}{}[unsafe.Sizeof(rwmutexWords{})-C.sizeof_struct_shm_rwmutex]
	_ = [1]struct{}{}[unsafe.Sizeof(semaphoreWords{})-C.sizeof_struct_shm_semaphore]
	_ = [1]struct{}{}[unsafe.Sizeof(eventWords{})-C.sizeof_struct_shm_event]
	_ = [1]struct{}{}[unsafe.Sizeof(barrierWords{})-C.sizeof_struct_shm_barrier]
	_ = [1]struct{}{}[unsafe.Offsetof(roomWords{}.gate)-C.offset_room_gate]
	_ = [1]struct{}{}[unsafe.Offsetof(semaphoreWords{}.used)-C.offset_semaphore_used]
	_ = [1]struct{}{}[unsafe.Offsetof(eventWords{}.gate)-C.offset_event_gate]
	_ = [1]struct{}{}[unsafe.Offsetof(barrierWords{}.round)-C.offset_barrier_round]
	_ = [1]struct{}{}[unsafe.Offsetof(rwmutexWords{}.state)-C.offset_rwmutex_state]
	_ = [1]struct{}{}[unsafe.Offsetof(rwmutexWords{}.admitted)-C.offset_rwmutex_admitted]
	_ = [1]struct{}{}[rwDied-C.SHM_RW_DIED]
	_ = [1]struct{}{}[rwLost-C.SHM_RW_LOST]
	_ = [1]struct{}{}[heldUnit-C.SHM_HELD_UNIT]
	_ = [1]struct{}{}[heldWaitsToWrite-C.SHM_HELD_WAITS_TO_WRITE]
	_ = [1]struct{}{}[heldArrived-C.SHM_HELD_ARRIVED]
	_ = [1]struct{}{}[heldMask-C.SHM_HELD_MASK]

	_ = [1]struct{}{}[slots-C.SHM_SLOTS]
	_ = [1]struct{}{}[held-C.SHM_HELD]

	_ = [1]struct{}{}[kindMutex-C.SHM_KIND_MUTEX]
	_ = [1]struct{}{}[kindArena-C.SHM_KIND_ARENA]
	_ = [1]struct{}{}[sleepsByFutex-C.SHM_SLEEPS_BY_FUTEX]
	_ = [1]struct{}{}[sleepsByBell-C.SHM_SLEEPS_BY_BELL]
	_ = [1]struct{}{}[slotFree-C.SHM_SLOT_FREE]
	_ = [1]struct{}{}[slotGiven-C.SHM_SLOT_GIVEN]
	_ = [1]struct{}{}[slotTaken-C.SHM_SLOT_TAKEN]
)
