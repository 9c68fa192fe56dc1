#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "arena.h"

#include <errno.h>
#include <string.h>

enum {
	CELLS = offsetof(struct shm_chunk, cell),
	FIRST_LARGE = 2 * CELLS, /* where the one block of a large class begins in its chunk */
};

/* (n * inverse) >> 32 is n / size, for each n within a chunk. */
#define SMALL(size, blocks, first)                                                              \
	{                                                                                       \
		SHM_ARENA_SMALL_UNITS, blocks, first, (uint32_t)(UINT32_MAX / (size)) + 1, size \
	}

static const struct shm_arena_class small_class[SHM_ARENA_SMALL] = {
	SMALL(16, 816, 3328),
	SMALL(32, 452, 1920),
	SMALL(48, 313, 1344),
	SMALL(64, 240, 1024),
	SMALL(80, 193, 896),
	SMALL(96, 162, 768),
	SMALL(112, 140, 640),
	SMALL(128, 123, 576),
	SMALL(160, 99, 512),
	SMALL(192, 83, 448),
	SMALL(224, 71, 384),
	SMALL(256, 62, 320),
	SMALL(320, 50, 320),
	SMALL(384, 42, 256),
	SMALL(448, 36, 256),
	SMALL(512, 31, 192),
	SMALL(640, 25, 192),
	SMALL(768, 21, 192),
	SMALL(896, 18, 192),
	SMALL(1024, 15, 128),
	SMALL(1280, 12, 128),
	SMALL(1536, 10, 128),
	SMALL(1792, 9, 128),
	SMALL(2048, 7, 128),
	SMALL(2560, 6, 128),
	SMALL(3072, 5, 128),
	SMALL(3584, 4, 128),
	SMALL(4096, 3, 128),
};

/* Sizes go up by steps: 1 to 8, and from there on 4 steps double the size. */
static uint32_t step_for(uint64_t n)
{
	int log;

	if (n <= 8)
		return n > 0 ? (uint32_t)n - 1 : 0;
	log = 63 - __builtin_clzll(n - 1);
	return 8 + (uint32_t)(log - 3) * 4 + (uint32_t)((n - 1) >> (log - 2) & 3);
}

static uint64_t size_of_step(uint32_t step)
{
	return step < 8 ? step + 1 : (uint64_t)(step % 4 + 5) << (step / 4 - 1);
}

uint32_t shm_arena_class_for(uint64_t size)
{
	if (size <= SHM_ARENA_LARGEST_SMALL)
		return step_for((size + 15) / 16);
	if (size > (uint64_t)SHM_ARENA_MAX_UNITS * SHM_ARENA_UNIT)
		return SHM_ARENA_CLASSES;
	return SHM_ARENA_SMALL - 1 + step_for((size + FIRST_LARGE + SHM_ARENA_UNIT - 1) / SHM_ARENA_UNIT);
}

struct shm_arena_class shm_arena_class(uint32_t class)
{
	struct shm_arena_class c = { 0, 1, FIRST_LARGE, 0, 0 };

	if (class < SHM_ARENA_SMALL)
		return small_class[class];
	c.units = (uint32_t)size_of_step(class - SHM_ARENA_SMALL + 1);
	c.size = (uint64_t)c.units * SHM_ARENA_UNIT - c.first;
	return c;
}

/* An operation on a block. */
struct arena_op {
	shm_arena *arena;
	struct shm_hold hold;
	struct shm_note *note;
	struct shm_arena_hint *hint;
	uint32_t class, mine; /* what the cell is while it is this process's own */
	const struct shm_arena_class *c;
	struct shm_arena_class large; /* is *c if the class is not small */
	uint64_t off;                 /* of the block */
	uint32_t unit, i;
	uint32_t *cell;
};

static uint32_t load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void store(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static uint32_t units_of(const shm_arena *a)
{
	uint32_t units = __atomic_load_n(&a->units, __ATOMIC_ACQUIRE), max = load(&a->max);

	return units < max ? units : max;
}

static uint32_t table_units(const shm_arena *a)
{
	return (uint32_t)((offsetof(shm_arena, table) + (uint64_t)load(&a->max) * sizeof(uint32_t) + SHM_ARENA_UNIT - 1) /
			  SHM_ARENA_UNIT);
}

static struct shm_chunk *chunk_at(shm_arena *a, uint32_t unit)
{
	return (struct shm_chunk *)(void *)((char *)a + (uint64_t)unit * SHM_ARENA_UNIT);
}

/* Names the arena in this process's slot. */
static int begin_op(struct arena_op *op, shm_arena *a, const uint64_t *to)
{
	int err;

	if (load(&a->head.kind) != SHM_KIND_ARENA || (uintptr_t)to % sizeof(*to) != 0)
		return EINVAL;
	op->arena = a;
	err = shm_hold(&a->head, &op->hold);
	if (err != 0)
		return err;
	op->mine = shm_cell_of(&op->hold);
	op->note = &shm_family.table->slot[op->hold.owner - 1].note[op->hold.index];
	__atomic_store_n(&op->note->to, (const char *)to - (const char *)a, __ATOMIC_RELAXED);
	return 0;
}

static void set_class(struct arena_op *op, uint32_t class)
{
	op->class = class;
	if (class < SHM_ARENA_SMALL) {
		op->c = &small_class[class];
		return;
	}
	op->large = shm_arena_class(class);
	op->c = &op->large;
}

/* Sets the operation to the i-th block of a chunk. */
static void set_block(struct arena_op *op, uint32_t unit, uint32_t i)
{
	op->unit = unit;
	op->i = i;
	op->off = (uint64_t)unit * SHM_ARENA_UNIT + op->c->first + i * op->c->size;
	op->cell = &chunk_at(op->arena, unit)->cell[i];
}

/* Makes the cell this process's own, if it is as expected. The note is there before. Returns whether it was. */
static int seize_cell(struct arena_op *op, uint32_t expected)
{
	uint64_t keeps = expected == SHM_CELL_USED ? SHM_NOTE_KEEPS : 0;

	__atomic_store_n(&op->note->block, op->off | keeps, __ATOMIC_RELAXED);
	return __atomic_compare_exchange_n(op->cell, &expected, op->mine, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Takes a block of the chunk. Returns 0 if none is free. */
static int take_of_chunk(struct arena_op *op, uint32_t unit)
{
	struct shm_chunk *chunk = chunk_at(op->arena, unit);
	uint32_t i = load(&chunk->next), n = op->c->blocks;

	for (; n > 0; n--, i++) {
		if (i >= op->c->blocks)
			i = 0;
		if (load(&chunk->cell[i]) != SHM_CELL_FREE)
			continue;
		set_block(op, unit, i);
		if (!seize_cell(op, SHM_CELL_FREE))
			continue;
		store(&chunk->next, i + 1);
		return 1;
	}
	__atomic_fetch_or(&op->arena->table[unit], SHM_UNIT_FULL, __ATOMIC_RELAXED);
	return 0;
}

/* Returns whether a chunk of the operation's class begins there. */
static int is_chunk(struct arena_op *op, uint32_t unit)
{
	return unit < units_of(op->arena) && (__atomic_load_n(&op->arena->table[unit], __ATOMIC_ACQUIRE) & ~(uint32_t)SHM_UNIT_FULL) == (SHM_UNIT_FIRST | op->class);
}

/* Takes a block of a chunk from a unit on, up to another. Looks in full chunks, too, if all is set. */
static int search_from(struct arena_op *op, uint32_t unit, uint32_t end, int all)
{
	shm_arena *a = op->arena;

	while (unit < end) {
		uint32_t word = __atomic_load_n(&a->table[unit], __ATOMIC_ACQUIRE), class = word & SHM_UNIT_CLASS;

		if (!(word & SHM_UNIT_FIRST) || class >= SHM_ARENA_CLASSES)
			return 0;
		if (class == op->class && (all || !(word & SHM_UNIT_FULL)) && take_of_chunk(op, unit)) {
			store(&op->hint->unit, unit);
			return 1;
		}
		unit += shm_arena_class(class).units;
	}
	return 0;
}

static int search_chunks(struct arena_op *op, uint32_t seen, int all)
{
	uint32_t first = table_units(op->arena), units = units_of(op->arena);

	if (seen < first)
		seen = first;
	return search_from(op, seen, units, all) || search_from(op, first, seen < units ? seen : units, all);
}

/* A process died in the room. Finishes the chunk that it made, or clears what is there of it. */
static void mend_table(shm_arena *a)
{
	uint32_t next = load(&a->next), units = units_of(a), word, i;

	word = next < units ? load(&a->table[next]) : 0;
	if (word & SHM_UNIT_FIRST && (word & SHM_UNIT_CLASS) < SHM_ARENA_CLASSES) {
		store(&a->next, next + shm_arena_class(word & SHM_UNIT_CLASS).units);
		return;
	}
	for (i = next + 1; i < units && load(&a->table[i]) == next; i++)
		store(&a->table[i], 0);
}

/* Makes a chunk of the operation's class in the room, unless another process has made one meanwhile. */
static int make_in_room(struct arena_op *op, uint32_t seen)
{
	shm_arena *a = op->arena;
	uint32_t next = load(&a->next), i;

	if (load(&op->hint->unit) != seen)
		return 0;
	if (next < table_units(a) || (uint64_t)next + op->c->units > units_of(a))
		return ENOMEM;
	memset(chunk_at(a, next), 0, op->c->first);
	for (i = 1; i < op->c->units; i++)
		store(&a->table[next + i], next);
	__atomic_store_n(&a->table[next], SHM_UNIT_FIRST | op->class, __ATOMIC_RELEASE);
	store(&a->next, next + op->c->units);
	store(&op->hint->unit, next);
	return 0;
}

static int make_chunk(struct arena_op *op, uint32_t seen)
{
	struct shm_room *room = (struct shm_room *)(void *)op->arena;
	int err;

	if (shm_room_enter(room, op->hold.owner))
		mend_table(op->arena);
	err = make_in_room(op, seen);
	shm_room_leave(room);
	return err;
}

/* Asks the program to make the arena grow, and waits until it has, or has not. */
static int await_room(struct arena_op *op)
{
	const struct timespec limit = { 2, 0 };
	struct shm_deadline end = shm_deadline_of(&limit);
	shm_arena *a = op->arena;
	uint32_t units = units_of(a), need = load(&a->next) + op->c->units, seen = load(&a->wanted), seq;

	if (need <= units)
		return 0;
	if (need > load(&a->limit))
		return ENOMEM;
	while (seen < need &&
	       !__atomic_compare_exchange_n(&a->wanted, &seen, need, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
	__atomic_fetch_add(&shm_family.table->wants, 1, __ATOMIC_SEQ_CST);
	shm_bell_ring();
	for (;;) {
		seq = shm_gate_enter(&a->gate);
		if (units_of(a) > units)
			return 0;
		if (__atomic_load_n(&a->wanted, __ATOMIC_SEQ_CST) < need || shm_gate_sleep(&a->gate, seq, &end) != 0)
			return ENOMEM;
	}
}

static int take_block(struct arena_op *op)
{
	for (;;) {
		uint32_t seen = load(&op->hint->unit);

		if (is_chunk(op, seen) && take_of_chunk(op, seen))
			return 0;
		if (load(&op->hint->more)) {
			store(&op->hint->more, 0);
			if (search_chunks(op, seen, 0)) {
				store(&op->hint->more, 1);
				return 0;
			}
		}
		if (make_chunk(op, seen) == 0)
			continue;
		if (search_chunks(op, 0, 1))
			return 0;
		if (await_room(op) != 0)
			return ENOMEM;
	}
}

/* Stores the Ref of the block that the operation has taken. */
static int publish_block(struct arena_op *op, size_t size, uint64_t *to)
{
	uint64_t none = 0;
	int stored;

	memset((char *)op->arena + op->off, 0, size);
	stored = __atomic_compare_exchange_n(to, &none, op->off, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	__atomic_store_n(op->cell, stored ? SHM_CELL_USED : SHM_CELL_FREE, __ATOMIC_RELEASE);
	return stored ? 0 : EEXIST;
}

static int alloc_block(struct arena_op *op, size_t size, uint64_t *to)
{
	uint32_t class = shm_arena_class_for(size);
	int err;

	if (class >= SHM_ARENA_CLASSES)
		return ENOMEM;
	set_class(op, class);
	op->hint = &op->arena->hint[op->class];
	if (__atomic_load_n(to, __ATOMIC_RELAXED) != 0)
		return EEXIST;
	err = take_block(op);
	return err != 0 ? err : publish_block(op, size, to);
}

uint64_t shm_alloc(shm_arena *a, size_t size, uint64_t *to)
{
	struct arena_op op;
	int err = begin_op(&op, a, to);

	if (err == 0) {
		err = alloc_block(&op, size, to);
		shm_unhold(&op.hold);
	}
	if (err == 0)
		return op.off;
	errno = err;
	return 0;
}

/* Sets the operation to the block at an offset. */
static int find_block(struct arena_op *op, uint64_t off)
{
	shm_arena *a = op->arena;
	uint64_t unit = off / SHM_ARENA_UNIT, within, i;
	uint32_t units = units_of(a), word;

	if (unit < table_units(a) || unit >= units)
		return EINVAL;
	word = __atomic_load_n(&a->table[unit], __ATOMIC_ACQUIRE);
	if (!(word & SHM_UNIT_FIRST)) {
		unit = word;
		if (unit == 0 || unit >= units)
			return EINVAL;
		word = __atomic_load_n(&a->table[unit], __ATOMIC_ACQUIRE);
	}
	if (!(word & SHM_UNIT_FIRST) || (word & SHM_UNIT_CLASS) >= SHM_ARENA_CLASSES)
		return EINVAL;
	set_class(op, word & SHM_UNIT_CLASS);
	within = off - unit * SHM_ARENA_UNIT - op->c->first;
	if (within > SHM_ARENA_SMALL_UNITS * SHM_ARENA_UNIT)
		return EINVAL;
	i = within * op->c->inverse >> 32;
	set_block(op, (uint32_t)unit, (uint32_t)i);
	return i < op->c->blocks && op->off == off ? 0 : EINVAL;
}

/* Another process is about to take or to free the block, or has died while it was. */
static void await_cell(const struct arena_op *op)
{
	const struct timespec moment = { 0, 1000 * 1000 };
	struct shm_deadline end = shm_deadline_of(&moment);
	uint32_t cell = load(op->cell);

	if (cell != SHM_CELL_FREE && cell != SHM_CELL_USED)
		shm_sleep(op->cell, cell, &end);
}

/* Makes the cell of the block that *from names this process's own. */
static int seize_named(struct arena_op *op, const uint64_t *from)
{
	int err, rounds;

	for (rounds = 0; rounds < 1000; rounds++) {
		err = find_block(op, __atomic_load_n(from, __ATOMIC_ACQUIRE));
		if (err != 0)
			return err;
		if (seize_cell(op, SHM_CELL_USED))
			return 0;
		if (load(op->cell) == SHM_CELL_FREE)
			return EINVAL;
		await_cell(op);
	}
	return EBUSY;
}

/* Says that the block is free, where the next one looks for such. */
static void hint_at(struct arena_op *op)
{
	shm_arena *a = op->arena;
	struct shm_arena_hint *hint = &a->hint[op->class];

	store(&chunk_at(a, op->unit)->next, op->i);
	if (load(&a->table[op->unit]) & SHM_UNIT_FULL)
		__atomic_fetch_and(&a->table[op->unit], ~(uint32_t)SHM_UNIT_FULL, __ATOMIC_RELAXED);
	if (load(&hint->unit) != op->unit) {
		store(&hint->unit, op->unit);
		store(&hint->more, 1);
	}
}

static int free_block(struct arena_op *op, uint64_t *from)
{
	int err = seize_named(op, from);

	if (err != 0)
		return err;
	if (__atomic_load_n(from, __ATOMIC_RELAXED) != op->off) {
		__atomic_store_n(op->cell, SHM_CELL_USED, __ATOMIC_RELEASE);
		return EINVAL;
	}
	__atomic_store_n(&op->note->block, op->off, __ATOMIC_RELAXED);
	__atomic_store_n(from, 0, __ATOMIC_RELEASE);
	__atomic_store_n(op->cell, SHM_CELL_FREE, __ATOMIC_RELEASE);
	hint_at(op);
	return 0;
}

int shm_free(shm_arena *a, uint64_t *from)
{
	struct arena_op op;
	int err = begin_op(&op, a, from);

	if (err == 0) {
		err = free_block(&op, from);
		shm_unhold(&op.hold);
	}
	return err;
}

void *shm_at(shm_arena *a, uint64_t off)
{
	return off == 0 || off >= (uint64_t)units_of(a) * SHM_ARENA_UNIT ? NULL : (char *)a + off;
}
