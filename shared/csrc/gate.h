/*
 * A gate is where threads and goroutines of all processes sleep until something
 * has changed. To wait:
 *
 *	struct shm_deadline end = shm_deadline_of(timeout);
 *	for (;;) {
 *		uint32_t seq = shm_gate_enter(gate);
 *		if (the change has happened)
 *			return 0;
 *		if (shm_gate_sleep(gate, seq, &end) == ETIMEDOUT)
 *			return ETIMEDOUT;
 *	}
 *
 * Whoever makes the change calls shm_gate_wake afterwards, which costs a load and a
 * fence if nobody sleeps. A process that is killed between the two wakes nobody:
 * whoever mends the structure calls shm_gate_wake. gate_linux.go is the same for Go.
 */
#ifndef SHM_GATE_H
#define SHM_GATE_H

#include "slot.h"

struct shm_deadline {
	int64_t at; /* nanoseconds of CLOCK_MONOTONIC, or negative: no limit */
};

/* timeout is from now on. NULL means no limit. */
struct shm_deadline shm_deadline_of(const struct timespec *timeout);

/* Returns the nanoseconds that are left, 0 if none are, and -1 without a limit. */
int64_t shm_deadline_left(const struct shm_deadline *end);

/*
 * Sleeps while *word is value, until the deadline, and for a second at most, as a
 * hostile process may swallow what wakes us. Returns 0, or ETIMEDOUT at the deadline.
 */
int shm_sleep(uint32_t *word, uint32_t value, const struct shm_deadline *end);

/* Wakes n of the threads that sleep at the word, and returns how many there were. */
int shm_rouse(uint32_t *word, int n);

/* Wakes the goroutines of all processes that wait for a word that has changed. */
void shm_bell_ring(void);

uint32_t shm_gate_enter(struct shm_gate *gate);
int shm_gate_sleep(struct shm_gate *gate, uint32_t seq, const struct shm_deadline *end);
void shm_gate_wake(struct shm_gate *gate);

#endif
