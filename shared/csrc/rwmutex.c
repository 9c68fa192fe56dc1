#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "room.h"

#include <errno.h>

static struct shm_room *rw_room(shm_rwmutex *l)
{
	return (struct shm_room *)(void *)l;
}

/* Counts anew after a death. A writer without a place was a writer that died. */
static void recount_rw(shm_rwmutex *l)
{
	l->readers = shm_hold_count(&l->head, SHM_HELD_READ);
	l->waiting_readers = shm_hold_count(&l->head, SHM_HELD_WAITS_TO_READ);
	l->waiting_writers = shm_hold_count(&l->head, SHM_HELD_WAITS_TO_WRITE);
	if (l->admitted > l->waiting_readers)
		l->admitted = l->waiting_readers;
	if (l->writer != 0 && shm_hold_count(&l->head, SHM_HELD_WRITE) == 0) {
		l->state |= SHM_RW_DIED;
		l->writer = 0;
	}
}

static void enter_rw(shm_rwmutex *l, uint32_t owner)
{
	if (shm_room_enter(rw_room(l), owner))
		recount_rw(l);
}

/* What a reader and a writer do differently. */
struct rw_way {
	enum shm_held has, waits;
};

static const struct rw_way reads = { SHM_HELD_READ, SHM_HELD_WAITS_TO_READ };
static const struct rw_way writes = { SHM_HELD_WRITE, SHM_HELD_WAITS_TO_WRITE };

static uint32_t *waiting(shm_rwmutex *l, const struct rw_way *way)
{
	return way->has == SHM_HELD_READ ? &l->waiting_readers : &l->waiting_writers;
}

/* A writer comes before readers that come anew. Readers that waited for a writer come before the next. */
static int may_enter(const shm_rwmutex *l, const struct rw_way *way)
{
	if (way->has == SHM_HELD_READ)
		return l->writer == 0 && (l->waiting_writers == 0 || l->admitted > 0);
	return l->writer == 0 && l->readers == 0 && l->admitted == 0;
}

static int grant(shm_rwmutex *l, const struct shm_hold *hold, const struct rw_way *way)
{
	shm_hold_set(hold, way->has);
	if (way->has == SHM_HELD_WRITE)
		l->writer = hold->owner;
	else
		l->readers++;
	if (way->has == SHM_HELD_READ && l->admitted > 0)
		l->admitted--;
	return l->state & SHM_RW_DIED ? EOWNERDEAD : 0;
}

/* Takes the lock, or notes that this place waits. */
static int try_rw(shm_rwmutex *l, const struct shm_hold *hold, const struct rw_way *way, int *waits)
{
	int err = EBUSY;

	enter_rw(l, hold->owner);
	if (*waits && (l->state & SHM_RW_LOST || may_enter(l, way))) {
		--*waiting(l, way);
		*waits = 0;
	}
	if (l->state & SHM_RW_LOST) {
		err = ENOTRECOVERABLE;
	} else if (may_enter(l, way)) {
		err = grant(l, hold, way);
	} else if (!*waits) {
		shm_hold_set(hold, way->waits);
		++*waiting(l, way);
		*waits = 1;
	}
	shm_room_leave(rw_room(l));
	return err;
}

static int give_up_rw(shm_rwmutex *l, const struct shm_hold *hold, const struct rw_way *way)
{
	enter_rw(l, hold->owner);
	shm_hold_set(hold, SHM_HELD_NOTHING);
	--*waiting(l, way);
	if (l->admitted > l->waiting_readers)
		l->admitted = l->waiting_readers;
	shm_room_leave(rw_room(l));
	shm_gate_wake(&l->gate);
	return ETIMEDOUT;
}

static int lock_rw(shm_rwmutex *l, const struct rw_way *way, const struct timespec *timeout)
{
	struct shm_deadline end = shm_deadline_of(timeout);
	int mine = shm_hold_is_mine(&l->head), waits = 0;
	struct shm_hold hold;
	int err = shm_hold(&l->head, &hold);

	if (err != 0)
		return err;
	while ((err = try_rw(l, &hold, way, &waits)) == EBUSY) {
		uint32_t seq = shm_gate_enter(&l->gate);

		err = try_rw(l, &hold, way, &waits);
		if (err != EBUSY)
			break;
		if (mine || shm_gate_sleep(&l->gate, seq, &end) == ETIMEDOUT) {
			err = give_up_rw(l, &hold, way);
			if (mine)
				err = EDEADLK;
			break;
		}
	}
	if (err == 0 || err == EOWNERDEAD)
		shm_hold_got(&hold);
	else
		shm_unhold(&hold);
	return err;
}

int shm_rdlock(shm_rwmutex *l, const struct timespec *timeout)
{
	return lock_rw(l, &reads, timeout);
}

int shm_wrlock(shm_rwmutex *l, const struct timespec *timeout)
{
	return lock_rw(l, &writes, timeout);
}

static int unlock_rw(shm_rwmutex *l, const struct rw_way *way)
{
	struct shm_hold hold;
	int err = shm_hold_find_set(&l->head, way->has, &hold);

	if (err != 0)
		return err;
	enter_rw(l, hold.owner);
	err = shm_hold_find_set(&l->head, way->has, &hold); /* another thread may have been first */
	if (err == 0 && way->has == SHM_HELD_WRITE) {
		if (l->state & SHM_RW_DIED)
			l->state |= SHM_RW_LOST;
		l->admitted = l->waiting_readers;
		l->writer = 0;
	} else if (err == 0) {
		l->readers--;
	}
	if (err == 0)
		shm_hold_set(&hold, SHM_HELD_NOTHING);
	shm_room_leave(rw_room(l));
	if (err == 0) {
		shm_gate_wake(&l->gate);
		(void)shm_hold_give(&hold);
		shm_unhold(&hold);
	}
	return err;
}

int shm_rdunlock(shm_rwmutex *l)
{
	return unlock_rw(l, &reads);
}

int shm_wrunlock(shm_rwmutex *l)
{
	return unlock_rw(l, &writes);
}

int shm_rwconsistent(shm_rwmutex *l)
{
	struct shm_hold hold;
	int err = shm_hold_find_set(&l->head, SHM_HELD_WRITE, &hold);

	if (err != 0)
		return err;
	enter_rw(l, hold.owner);
	l->state &= ~(uint32_t)SHM_RW_DIED;
	shm_room_leave(rw_room(l));
	return 0;
}
