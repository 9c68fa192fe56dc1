/* Children that use a lock. */
#ifndef SHAREDC_MUTEX_H
#define SHAREDC_MUTEX_H

#include "../../../csrc/shm_shared.h"

enum mutex_act {
	MUTEX_END,
	MUTEX_LOCK,
	MUTEX_TRYLOCK,
	MUTEX_CONSISTENT,
	MUTEX_UNLOCK,
	MUTEX_PAUSE,      /* for ever */
	MUTEX_NEXT,       /* go on with the lock behind this one */
	MUTEX_TRACE,      /* be traced by the thread that forked */
	MUTEX_STOP,       /* stop, for the tracer */

	/* The structure at the beginning is another one. */
	RW_RDLOCK,
	RW_WRLOCK,
	RW_CONSISTENT,
	RW_RDUNLOCK,
	RW_WRUNLOCK,
	SEMAPHORE_ACQUIRE,
	SEMAPHORE_RELEASE,
	EVENT_WAIT,
	EVENT_SET,
	BARRIER_WAIT,

	TIMED = 256, /* added to an act that waits: for 2 ms */
};

enum { MUTEX_ACTS = 40 };

/* A lock, and what children do with it. MutexArea in sharedc.go is the same. */
struct mutex_area {
	shm_mutex lock;
	uint64_t counter; /* guarded by the lock */
	uint32_t inside;  /* how many are within the lock */
	uint32_t rounds;  /* of child_count_locked */
	uint32_t done;    /* how many acts are done */
	int32_t act[MUTEX_ACTS];
	int32_t result[MUTEX_ACTS];
	shm_mutex others[20] __attribute__((aligned(64)));
};

/* Acts, and stores the results. */
int child_mutex_acts(void *addr, size_t length);

/* Acts, waits until inside is not 0, and returns 3. */
int child_mutex_fail(void *addr, size_t length);

/* Adds 1 to the counter, rounds times. Returns 0, or 1 if another process was within the lock. */
int child_count_locked(void *addr, size_t length);

/*
 * Reads and writes the counter by turns, rounds times. A writer adds 1000 to inside
 * for a moment, and a reader 1. Returns 0, or 1 if inside shows more than one writer.
 */
int child_count_rw(void *addr, size_t length);

/* Acquires and releases, rounds times. Returns 0, or 1 if more than 2 are inside. */
int child_count_units(void *addr, size_t length);

/* Locks, makes consistent what a dead owner left, and unlocks. Returns 0 or an errno value. */
int child_lock_once(void *addr, size_t length);

/*
 * Takes part in a contest: locks and counts, until each of act[0] parties has locked
 * rounds times. done numbers the parties, result has their counts, and inside is how many have
 * as many as they need. TestNoWaiterStarves does the same.
 */
int child_contest(void *addr, size_t length);

#endif
