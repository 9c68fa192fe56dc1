/*
 * An arena is a header, a table, and chunks of blocks. All offsets are from the
 * arena's beginning, in bytes, or in units of 4 KiB. The table has a word for each
 * unit. A chunk is some units. Its blocks are of one size class, and each has a cell,
 * which says whose the block is. A chunk stays in its class.
 *
 * There is no list of free blocks that a death could break: a cell alone says
 * whether its block is free. To take a block,
 *
 *	the process names the arena in its slot, and notes beside it the block and
 *	where the block's Ref is to be stored (struct shm_note);
 *	cell: SHM_CELL_FREE -> the process's own, see shm_cell_of;
 *	the Ref is stored, if it is 0;
 *	cell: -> SHM_CELL_USED;
 *	the name is cleared.
 *
 * To free a block is the same: USED, own, the Ref becomes 0, FREE. If the process
 * dies while the cell is its own, the mender looks whether the Ref names the block.
 * If so, the block is in use, and otherwise it is free.
 *
 * Another process may have freed the same Ref, and a third may have the block now,
 * before the cell becomes the process's own. So the process then looks at the Ref
 * again. Until it has, the note says SHM_NOTE_KEEPS: the block stays in use.
 *
 * The arena is a room, too: who makes a chunk is in it. The table's word of the
 * chunk's first unit is written last. Until then there is no chunk.
 *
 * All else is a hint, which no death can spoil: hints say where to look first.
 * arena_alloc_linux.go is the same for Go, and has the mender.
 */
#ifndef SHM_ARENA_H
#define SHM_ARENA_H

#include "room.h"

enum {
	SHM_ARENA_UNIT = 4096,
	SHM_ARENA_SMALL_UNITS = 4, /* of a chunk with small blocks */
	SHM_ARENA_SMALL = 28,      /* classes of small blocks; others have a chunk for each block */
	SHM_ARENA_LARGEST_SMALL = 4096,
	SHM_ARENA_CLASSES = SHM_ARENA_SMALL + 107,
	SHM_ARENA_MAX_UNITS = 1 << 28,
};

/* A word of the table: 0 if the unit is in no chunk, the chunk's first unit, or for that unit flags and the class. */
enum {
	SHM_UNIT_CLASS = 0xff,
	SHM_UNIT_FULL = 1 << 30, /* a hint: no block of the chunk is free */
};
#define SHM_UNIT_FIRST ((uint32_t)1 << 31)

/* A cell: free, in use, or an owner's that takes or frees the block. */
#define SHM_CELL_FREE ((uint32_t)0)
#define SHM_CELL_USED ((uint32_t)1 << 31)
enum { SHM_CELL_PLACE_SHIFT = 16 }; /* the place in the owner's slot that has the note */
enum { SHM_NOTE_KEEPS = 1 };        /* a flag of shm_note.block */

static inline uint32_t shm_cell_of(const struct shm_hold *hold)
{
	return hold->owner | (uint32_t)hold->index << SHM_CELL_PLACE_SHIFT;
}

struct shm_chunk {
	uint32_t next; /* a hint: the cell where to look first */
	uint32_t unused[15];
	uint32_t cell[]; /* the blocks begin at a multiple of 64 bytes behind */
};

/* What blocks of a class are like. */
struct shm_arena_class {
	uint32_t units;  /* of a chunk */
	uint32_t blocks; /* in a chunk */
	uint32_t first;  /* where the first block begins in the chunk, in bytes */
	uint32_t inverse;
	uint64_t size; /* of a block, in bytes */
};

/* Returns the class of the smallest blocks that have size bytes, and SHM_ARENA_CLASSES or more if none has. */
uint32_t shm_arena_class_for(uint64_t size);
struct shm_arena_class shm_arena_class(uint32_t class);

#endif
