#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "room.h"

#include <errno.h>

static struct shm_room *semaphore_room(shm_semaphore *s)
{
	return (struct shm_room *)(void *)s;
}

static void enter_semaphore(shm_semaphore *s, uint32_t owner)
{
	if (shm_room_enter(semaphore_room(s), owner))
		s->used = shm_hold_count(&s->head, SHM_HELD_UNIT);
}

static int take_unit(shm_semaphore *s, const struct shm_hold *hold)
{
	int taken;

	enter_semaphore(s, hold->owner);
	taken = s->used < s->limit;
	if (taken) {
		shm_hold_set(hold, SHM_HELD_UNIT);
		s->used++;
	}
	shm_room_leave(semaphore_room(s));
	return taken;
}

int shm_acquire(shm_semaphore *s, const struct timespec *timeout)
{
	struct shm_deadline end = shm_deadline_of(timeout);
	struct shm_hold hold;
	int err = shm_hold(&s->head, &hold);

	while (err == 0 && !take_unit(s, &hold)) {
		uint32_t seq = shm_gate_enter(&s->gate);

		if (take_unit(s, &hold))
			return 0;
		err = shm_gate_sleep(&s->gate, seq, &end);
		if (err != 0)
			shm_unhold(&hold);
	}
	return err;
}

int shm_release(shm_semaphore *s)
{
	struct shm_hold hold;
	int err = shm_hold_find_set(&s->head, SHM_HELD_UNIT, &hold);

	if (err != 0)
		return err;
	enter_semaphore(s, hold.owner);
	err = shm_hold_find_set(&s->head, SHM_HELD_UNIT, &hold); /* another thread may have been first */
	if (err == 0) {
		shm_hold_set(&hold, SHM_HELD_NOTHING);
		s->used--;
	}
	shm_room_leave(semaphore_room(s));
	if (err == 0) {
		shm_gate_wake(&s->gate);
		shm_unhold(&hold);
	}
	return err;
}
