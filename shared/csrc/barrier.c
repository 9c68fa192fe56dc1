#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "room.h"

#include <errno.h>

static struct shm_room *barrier_room(shm_barrier *b)
{
	return (struct shm_room *)(void *)b;
}

static enum shm_held arrived_in(uint32_t round)
{
	return (enum shm_held)(SHM_HELD_ARRIVED + (round & 31));
}

static void enter_barrier(shm_barrier *b, uint32_t owner)
{
	if (shm_room_enter(barrier_room(b), owner))
		b->arrived = shm_hold_count(&b->head, arrived_in(b->round));
}

/* Arrives. Returns the round, and in *last whether this was the last party. */
static uint32_t arrive(shm_barrier *b, const struct shm_hold *hold, int *last)
{
	uint32_t round;

	enter_barrier(b, hold->owner);
	round = b->round;
	*last = b->arrived + 1 >= b->parties;
	if (*last) {
		__atomic_store_n(&b->round, round + 1, __ATOMIC_SEQ_CST); /* whoever counts anew from here on finds nobody in the new round */
		b->arrived = 0;
	} else {
		shm_hold_set(hold, arrived_in(round));
		b->arrived++;
	}
	shm_room_leave(barrier_room(b));
	return round;
}

/* A party goes. Returns 0, or err if the round is not over. */
static int depart(shm_barrier *b, const struct shm_hold *hold, uint32_t round, int err)
{
	enter_barrier(b, hold->owner);
	shm_hold_set(hold, SHM_HELD_NOTHING);
	if (b->round != round)
		err = 0;
	else
		b->arrived--;
	shm_room_leave(barrier_room(b));
	return err;
}

int shm_barrier_wait(shm_barrier *b, const struct timespec *timeout)
{
	struct shm_deadline end = shm_deadline_of(timeout);
	struct shm_hold hold;
	uint32_t round;
	int last, err = shm_hold(&b->head, &hold);

	if (err != 0)
		return err;
	round = arrive(b, &hold, &last);
	if (last)
		shm_gate_wake(&b->gate);
	while (!last) {
		uint32_t seq = shm_gate_enter(&b->gate);

		if (__atomic_load_n(&b->round, __ATOMIC_SEQ_CST) != round)
			break;
		if (shm_gate_sleep(&b->gate, seq, &end) == ETIMEDOUT) {
			err = depart(b, &hold, round, ETIMEDOUT);
			break;
		}
	}
	shm_unhold(&hold);
	return err;
}
