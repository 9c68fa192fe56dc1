//go:build linux && cgo

package shared

/*
#include "csrc/mutex.h"

enum {
	offset_head_where = offsetof(struct shm_head, where),
	offset_head_table = offsetof(struct shm_head, table),
	offset_gate_sleepers = offsetof(struct shm_gate, sleepers),
	offset_slot_pid_space = offsetof(struct shm_slot, pid_space),
	offset_slot_of = offsetof(struct shm_slot, of),
	offset_slot_held = offsetof(struct shm_slot, held),
	offset_slot_notes = offsetof(struct shm_slot, notes),
	offset_mutex_word = offsetof(struct shm_mutex, word),
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
	_ = [1]struct{}{}[unsafe.Offsetof(head{}.table)-C.offset_head_table]
	_ = [1]struct{}{}[unsafe.Offsetof(gate{}.sleepers)-C.offset_gate_sleepers]
	_ = [1]struct{}{}[unsafe.Offsetof(slot{}.pidSpace)-C.offset_slot_pid_space]
	_ = [1]struct{}{}[unsafe.Offsetof(slot{}.of)-C.offset_slot_of]
	_ = [1]struct{}{}[unsafe.Offsetof(slot{}.held)-C.offset_slot_held]
	_ = [1]struct{}{}[unsafe.Offsetof(slot{}.notes)-C.offset_slot_notes]
	_ = [1]struct{}{}[unsafe.Offsetof(table{}.bell)-C.offset_table_bell]
	_ = [1]struct{}{}[unsafe.Offsetof(table{}.slot)-C.offset_table_slot]

	_ = [1]struct{}{}[MutexSize-C.sizeof_struct_shm_mutex]
	_ = [1]struct{}{}[unsafe.Sizeof(mutexWords{})-C.sizeof_struct_shm_mutex]
	_ = [1]struct{}{}[unsafe.Offsetof(mutexWords{}.word)-C.offset_mutex_word]
	_ = [1]struct{}{}[mutexOwner-C.SHM_MUTEX_OWNER]
	_ = [1]struct{}{}[mutexDied-C.SHM_MUTEX_DIED]
	_ = [1]struct{}{}[mutexStarving-C.SHM_MUTEX_STARVING]
	_ = [1]struct{}{}[mutexPatience-C.SHM_MUTEX_PATIENCE]

	_ = [1]struct{}{}[slots-C.SHM_SLOTS]
	_ = [1]struct{}{}[held-C.SHM_HELD]
	_ = [1]struct{}{}[notes-C.SHM_NOTES]

	_ = [1]struct{}{}[kindMutex-C.SHM_KIND_MUTEX]
	_ = [1]struct{}{}[kindArena-C.SHM_KIND_ARENA]
	_ = [1]struct{}{}[sleepsByFutex-C.SHM_SLEEPS_BY_FUTEX]
	_ = [1]struct{}{}[sleepsByBell-C.SHM_SLEEPS_BY_BELL]
	_ = [1]struct{}{}[slotFree-C.SHM_SLOT_FREE]
	_ = [1]struct{}{}[slotGiven-C.SHM_SLOT_GIVEN]
	_ = [1]struct{}{}[slotTaken-C.SHM_SLOT_TAKEN]
)
