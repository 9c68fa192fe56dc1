/* The word of a mutex. mutex_linux.go is the same for Go, and has the mender. */
#ifndef SHM_MUTEX_H
#define SHM_MUTEX_H

#include "gate.h"

enum {
	SHM_MUTEX_OWNER = 0xffff,     /* the owner, or 0 if the lock is free */
	SHM_MUTEX_DIED = 1 << 16,     /* an owner died, and nobody has called shm_consistent */
	SHM_MUTEX_LOST = 1 << 17,     /* the lock is not recoverable */
	SHM_MUTEX_FUTEX = 1 << 18,    /* threads may wait for the word */
	SHM_MUTEX_BELL = 1 << 19,     /* goroutines may wait for the bell */
	SHM_MUTEX_STARVING = 1 << 20, /* who comes anew waits, as others have waited for long */
};

/* The steps of a lock, for structures that have one within. */
int shm_mutex_take(shm_mutex *l, uint32_t owner, int has_waited, uint32_t *seen);
int shm_mutex_await(shm_mutex *l, uint32_t owner, const struct shm_deadline *end);
void shm_mutex_wake(shm_mutex *l, uint32_t word);

enum { SHM_MUTEX_PATIENCE = 4 }; /* how often a waiter is overtaken until it starves */

#endif
