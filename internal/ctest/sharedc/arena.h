/* Children that allocate in an arena. */
#ifndef SHAREDC_ARENA_H
#define SHAREDC_ARENA_H

#include "../../../csrc/shm_shared.h"

enum arena_op {
	ARENA_END,
	ARENA_ALLOC,  /* size bytes for ref[i], which must be zero, and are filled then */
	ARENA_FREE,   /* what ref[i] names, whose first size bytes must be as they were filled */
	ARENA_RANDOM, /* size times one or the other, for ref[i] up to ref[i + 100] */
	ARENA_TRACE,  /* be traced by the thread that forked */
	ARENA_STOP,   /* stop, for the tracer */
	ARENA_PAUSE,  /* for ever */
	ARENA_TAKE,   /* is ARENA_ALLOC without a look at the bytes */
	ARENA_GIVE,   /* is ARENA_FREE, likewise */
	ARENA_LOCK,   /* the lock at ARENA_LOCK_OFFSET */
};

enum { ARENA_ACTS = 16, ARENA_REFS = 400, ARENA_LOCK_OFFSET = 8128, ARENA_OFFSET = 8192 };

/* What children do. ArenaSite in sharedc.go is the same. The arena is at ARENA_OFFSET. */
struct arena_site {
	uint64_t ref[ARENA_REFS];
	uint32_t size[ARENA_REFS]; /* of what a Ref names, or will */
	uint32_t done;             /* how many acts are done */
	uint32_t unused;
	struct arena_act {
		uint32_t op, i, size;
		int32_t result; /* an errno value, or -1: a block was not as it must be */
	} act[ARENA_ACTS];
};

/* Acts from the act shm_arg() on, up to ARENA_END. */
int child_arena_acts(void *addr, size_t length);

/* Allocates and frees n times, in C. Returns 0 or an errno value. */
int loop_arena(shm_arena *a, size_t size, uint64_t *to, long n);

/* The same by malloc(3). */
int loop_malloc(size_t size, long n);

/* Returns what shm_arena_class says of a class, and the class of a size. */
void arena_class(uint32_t class, uint64_t c[4]);
uint32_t arena_class_for(uint64_t size);

#endif
