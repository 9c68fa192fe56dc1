#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mutex.h"

#include <errno.h>
#include <limits.h>

/*
 * Takes the lock if it is free. Returns what shm_lock does, or EBUSY; then *seen is
 * the word. Who has waited already may take a lock for which others starve.
 */
int shm_mutex_take(shm_mutex *l, uint32_t owner, int has_waited, uint32_t *seen)
{
	uint32_t word = __atomic_load_n(&l->word, __ATOMIC_RELAXED), next;

	do {
		if (word & SHM_MUTEX_LOST)
			return ENOTRECOVERABLE;
		*seen = word;
		if (word & SHM_MUTEX_OWNER || (word & SHM_MUTEX_STARVING && !has_waited))
			return EBUSY;
		next = (word & ~(uint32_t)SHM_MUTEX_STARVING) | owner;
	} while (!__atomic_compare_exchange_n(&l->word, &word, next, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
	return word & SHM_MUTEX_DIED ? EOWNERDEAD : 0;
}

/* A waiter gives up. If it was the one that starves, or if it was woken just now, others go on. */
static int give_up_mutex(shm_mutex *l)
{
	uint32_t word = __atomic_fetch_and(&l->word, ~(uint32_t)SHM_MUTEX_STARVING, __ATOMIC_ACQ_REL);

	if (!(word & SHM_MUTEX_OWNER) && word & SHM_MUTEX_FUTEX)
		shm_rouse(&l->word, 1);
	return ETIMEDOUT;
}

int shm_mutex_await(shm_mutex *l, uint32_t owner, const struct shm_deadline *end)
{
	uint32_t word, next;
	int err, rounds = 0;

	while ((err = shm_mutex_take(l, owner, rounds > 0, &word)) == EBUSY) {
		if (l->head.kind == SHM_KIND_MUTEX && (word & SHM_MUTEX_OWNER) == owner && shm_hold_is_mine(&l->head))
			return EDEADLK;
		next = word | SHM_MUTEX_FUTEX;
		if (rounds >= SHM_MUTEX_PATIENCE)
			next |= SHM_MUTEX_STARVING;
		if (next != word && !__atomic_compare_exchange_n(&l->word, &word, next, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		if (shm_sleep(&l->word, next, end) == ETIMEDOUT)
			return give_up_mutex(l);
		rounds++;
	}
	return err;
}

/* Ends an attempt to lock: the place in the slot stays if the lock is held. */
static int settle_mutex(const struct shm_hold *hold, int err)
{
	if (err == 0 || err == EOWNERDEAD)
		shm_hold_got(hold);
	else
		shm_unhold(hold);
	return err;
}

int shm_lock(shm_mutex *l, const struct timespec *timeout)
{
	struct shm_deadline end;
	struct shm_hold hold;
	uint32_t word;
	int err = shm_hold(&l->head, &hold);

	if (err != 0)
		return err;
	err = shm_mutex_take(l, hold.owner, 0, &word);
	if (err == EBUSY) {
		end = shm_deadline_of(timeout);
		err = shm_mutex_await(l, hold.owner, &end);
	}
	return settle_mutex(&hold, err);
}

int shm_trylock(shm_mutex *l)
{
	struct shm_hold hold;
	uint32_t word;
	int err = shm_hold(&l->head, &hold);

	return err != 0 ? err : settle_mutex(&hold, shm_mutex_take(l, hold.owner, 0, &word));
}

static int mutex_is_held_by(const shm_mutex *l, uint32_t owner)
{
	return (__atomic_load_n(&l->word, __ATOMIC_RELAXED) & SHM_MUTEX_OWNER) == owner;
}

int shm_consistent(shm_mutex *l)
{
	struct shm_hold hold;

	if (shm_hold_find(&l->head, &hold) != 0 || !mutex_is_held_by(l, hold.owner))
		return EPERM;
	__atomic_fetch_and(&l->word, ~(uint32_t)SHM_MUTEX_DIED, __ATOMIC_RELAXED);
	return 0;
}

/* Releases the word. Returns what it was. */
static uint32_t release_mutex(shm_mutex *l)
{
	uint32_t word = __atomic_load_n(&l->word, __ATOMIC_RELAXED), next;

	do {
		next = word & (SHM_MUTEX_FUTEX | SHM_MUTEX_STARVING | SHM_MUTEX_LOST);
		if (word & SHM_MUTEX_DIED)
			next |= SHM_MUTEX_LOST;
	} while (!__atomic_compare_exchange_n(&l->word, &word, next, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	return word;
}

/*
 * Wakes a thread, and the goroutine of each process that waits. A thread that was
 * not asleep yet when there was none to wake finds the word changed.
 */
void shm_mutex_wake(shm_mutex *l, uint32_t word)
{
	uint32_t idle = SHM_MUTEX_FUTEX;

	if (word & SHM_MUTEX_FUTEX && shm_rouse(&l->word, word & SHM_MUTEX_DIED ? INT_MAX : 1) == 0)
		__atomic_compare_exchange_n(&l->word, &idle, 0, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	if (word & SHM_MUTEX_BELL)
		shm_bell_ring();
}

int shm_unlock(shm_mutex *l)
{
	struct shm_hold hold;
	uint32_t word;

	if (shm_hold_find(&l->head, &hold) != 0 || !mutex_is_held_by(l, hold.owner) || shm_hold_give(&hold) != 0)
		return EPERM;
	word = release_mutex(l);
	if (word & (SHM_MUTEX_FUTEX | SHM_MUTEX_BELL))
		shm_mutex_wake(l, word);
	shm_unhold(&hold);
	return 0;
}
