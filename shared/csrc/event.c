#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "gate.h"

#include <errno.h>

int shm_event_wait(shm_event *e, const struct timespec *timeout)
{
	struct shm_deadline end = shm_deadline_of(timeout);

	for (;;) {
		uint32_t seq;

		if (__atomic_load_n(&e->set, __ATOMIC_ACQUIRE) != 0)
			return 0;
		seq = shm_gate_enter(&e->gate);
		if (__atomic_load_n(&e->set, __ATOMIC_SEQ_CST) != 0)
			return 0;
		if (shm_gate_sleep(&e->gate, seq, &end) == ETIMEDOUT)
			return ETIMEDOUT;
	}
}

void shm_event_set(shm_event *e)
{
	struct shm_hold hold;
	int err = shm_hold(&e->head, &hold); /* without a place, waiters see the change within a second of a death */

	__atomic_store_n(&e->set, 1, __ATOMIC_SEQ_CST);
	shm_gate_wake(&e->gate);
	if (err == 0)
		shm_unhold(&hold);
}

void shm_event_reset(shm_event *e)
{
	__atomic_store_n(&e->set, 0, __ATOMIC_SEQ_CST);
}
