#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "room.h"

#include <errno.h>

int shm_room_enter(struct shm_room *r, uint32_t owner)
{
	const struct shm_deadline never = { -1 };
	shm_mutex *l = (shm_mutex *)(void *)r;
	uint32_t word;
	int err = shm_mutex_take(l, owner, 0, &word);

	if (err == EBUSY)
		err = shm_mutex_await(l, owner, &never);
	if (err != EOWNERDEAD)
		return 0;
	__atomic_fetch_and(&r->word, ~(uint32_t)SHM_MUTEX_DIED, __ATOMIC_SEQ_CST);
	return 1;
}

/* A mender may have flagged the room meanwhile. The flag stays for who enters next. */
void shm_room_leave(struct shm_room *r)
{
	const uint32_t keep = SHM_MUTEX_FUTEX | SHM_MUTEX_STARVING | SHM_MUTEX_DIED;
	uint32_t word = __atomic_load_n(&r->word, __ATOMIC_RELAXED);

	while (!__atomic_compare_exchange_n(&r->word, &word, word & keep, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	if (word & (SHM_MUTEX_FUTEX | SHM_MUTEX_BELL))
		shm_mutex_wake((shm_mutex *)(void *)r, word & ~(uint32_t)SHM_MUTEX_DIED);
}
