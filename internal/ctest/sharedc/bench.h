/* The C side of benchmarks. Each function returns 0 or an errno value. */
#ifndef SHAREDC_BENCH_H
#define SHAREDC_BENCH_H

#include "../../../csrc/shm_shared.h"

/* Locks and unlocks n times. */
int loop_lock(shm_mutex *l, long n);

/* The same with a robust mutex of pthread_mutexattr_setrobust(3), which processes share. */
int loop_robust(long n);

/* Locks that two processes hand over to each other: hand_over in sharedc.go is the same. */
struct hand_over {
	shm_mutex lock[3];
	uint32_t ready;
	uint32_t rounds;
};

/*
 * Takes part in a hand-over, as the party 0 or 1. A party locks the next of three
 * locks and then unlocks the one before, and so each waits for the other.
 */
int hand_over(struct hand_over *h, uint32_t party);

/* Is hand_over as the party 1, for a child. */
int child_hand_over(void *addr, size_t length);

/* The same with robust mutexes: this process and a child, n rounds. */
int loop_hand_over_robust(long n);

#endif
