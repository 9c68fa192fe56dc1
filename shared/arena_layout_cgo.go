//go:build linux && cgo

package shared

/*
#include "csrc/arena.h"

enum {
	offset_arena_max = offsetof(struct shm_arena, max),
	offset_arena_limit = offsetof(struct shm_arena, limit),
	offset_arena_hint = offsetof(struct shm_arena, hint),
	offset_arena_table = offsetof(struct shm_arena, table),
	offset_chunk_cell = offsetof(struct shm_chunk, cell),
	hints = sizeof(((struct shm_arena *)0)->hint) / sizeof(struct shm_arena_hint),
};
*/
import "C"

import "unsafe"

// Each line checks that two numbers are equal: another index than 0 does not compile.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(arenaHint{})-C.sizeof_struct_shm_arena_hint]
	_ = [1]struct{}{}[unsafe.Offsetof(arenaWords{}.max)-C.offset_arena_max]
	_ = [1]struct{}{}[unsafe.Offsetof(arenaWords{}.limit)-C.offset_arena_limit]
	_ = [1]struct{}{}[unsafe.Offsetof(arenaWords{}.hint)-C.offset_arena_hint]
	_ = [1]struct{}{}[arenaTable-C.offset_arena_table]
	_ = [1]struct{}{}[unsafe.Offsetof(chunkWords{}.cell)-C.offset_chunk_cell]
	_ = [1]struct{}{}[arenaChunkHeader-C.offset_chunk_cell]

	_ = [1]struct{}{}[arenaUnit-C.SHM_ARENA_UNIT]
	_ = [1]struct{}{}[arenaSmallUnits-C.SHM_ARENA_SMALL_UNITS]
	_ = [1]struct{}{}[arenaSmall-C.SHM_ARENA_SMALL]
	_ = [1]struct{}{}[arenaLargestSmall-C.SHM_ARENA_LARGEST_SMALL]
	_ = [1]struct{}{}[arenaClasses-C.SHM_ARENA_CLASSES]
	_ = [1]struct{}{}[arenaClasses-C.hints]
	_ = [1]struct{}{}[arenaMaxUnits-C.SHM_ARENA_MAX_UNITS]
	_ = [1]struct{}{}[unitClass-C.SHM_UNIT_CLASS]
	_ = [1]struct{}{}[unitFull-C.SHM_UNIT_FULL]
	_ = [1]struct{}{}[cellPlaceShift-C.SHM_CELL_PLACE_SHIFT]
	_ = [1]struct{}{}[noteKeeps-C.SHM_NOTE_KEEPS]
)
