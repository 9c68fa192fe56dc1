#include "mutex.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <unistd.h>

static int lock_act(shm_mutex *l, int32_t what, const struct timespec *limit)
{
	switch (what) {
	case MUTEX_LOCK:
		return shm_lock(l, limit);
	case MUTEX_TRYLOCK:
		return shm_trylock(l);
	case MUTEX_CONSISTENT:
		return shm_consistent(l);
	case MUTEX_UNLOCK:
		return shm_unlock(l);
	case MUTEX_TRACE:
		return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 ? errno : 0;
	case MUTEX_STOP:
		return raise(SIGSTOP);
	default:
		for (;;)
			pause();
	}
}

static int act(void *at, int32_t what, const struct timespec *limit)
{
	switch (what) {
	case RW_RDLOCK:
		return shm_rdlock(at, limit);
	case RW_WRLOCK:
		return shm_wrlock(at, limit);
	case RW_CONSISTENT:
		return shm_rwconsistent(at);
	case RW_RDUNLOCK:
		return shm_rdunlock(at);
	case RW_WRUNLOCK:
		return shm_wrunlock(at);
	case SEMAPHORE_ACQUIRE:
		return shm_acquire(at, limit);
	case SEMAPHORE_RELEASE:
		return shm_release(at);
	case EVENT_WAIT:
		return shm_event_wait(at, limit);
	case EVENT_SET:
		shm_event_set(at);
		return 0;
	case BARRIER_WAIT:
		return shm_barrier_wait(at, limit);
	default:
		return lock_act(at, what, limit);
	}
}

static int timed_act(void *at, int32_t what)
{
	const struct timespec moment = { 0, 2 * 1000 * 1000 };

	return act(at, what & ~TIMED, what & TIMED ? &moment : NULL);
}

int child_mutex_acts(void *addr, size_t length)
{
	struct mutex_area *a = addr;
	shm_mutex *l = &a->lock;
	int i;

	(void)length;
	for (i = 0; i < MUTEX_ACTS && a->act[i] != MUTEX_END; i++) {
		if (a->act[i] == MUTEX_NEXT)
			l = l == &a->lock ? a->others : l + 1;
		else
			a->result[i] = timed_act(l, a->act[i]);
		__atomic_store_n(&a->done, (uint32_t)i + 1, __ATOMIC_SEQ_CST);
	}
	return 0;
}

int child_mutex_fail(void *addr, size_t length)
{
	struct mutex_area *a = addr;

	child_mutex_acts(addr, length);
	while (__atomic_load_n(&a->inside, __ATOMIC_SEQ_CST) == 0)
		usleep(100);
	return 3;
}

int child_count_locked(void *addr, size_t length)
{
	struct mutex_area *a = addr;
	uint32_t i;

	(void)length;
	for (i = 0; i < a->rounds; i++) {
		if (shm_lock(&a->lock, NULL) != 0)
			return 2;
		if (__atomic_fetch_add(&a->inside, 1, __ATOMIC_SEQ_CST) != 0)
			return 1;
		a->counter++;
		__atomic_fetch_sub(&a->inside, 1, __ATOMIC_SEQ_CST);
		if (shm_unlock(&a->lock) != 0)
			return 3;
	}
	return 0;
}

int child_lock_once(void *addr, size_t length)
{
	struct mutex_area *a = addr;
	int err = shm_lock(&a->lock, NULL);

	(void)length;
	if (err == EOWNERDEAD)
		err = shm_consistent(&a->lock);
	return err != 0 ? err : shm_unlock(&a->lock);
}

static int count_rw(struct mutex_area *a, uint32_t i)
{
	shm_rwmutex *l = (shm_rwmutex *)(void *)&a->lock;
	uint32_t add = i % 2 == 0 ? 1000 : 1;
	int err = add == 1 ? shm_rdlock(l, NULL) : shm_wrlock(l, NULL);
	uint32_t inside;

	if (err != 0)
		return err;
	inside = __atomic_add_fetch(&a->inside, add, __ATOMIC_SEQ_CST);
	if (add == 1000 ? inside != 1000 : inside >= 1000)
		return 1;
	if (add == 1000)
		a->counter++;
	__atomic_fetch_sub(&a->inside, add, __ATOMIC_SEQ_CST);
	return add == 1 ? shm_rdunlock(l) : shm_wrunlock(l);
}

int child_count_rw(void *addr, size_t length)
{
	struct mutex_area *a = addr;
	uint32_t i;
	int err = 0;

	(void)length;
	for (i = 0; i < a->rounds && err == 0; i++)
		err = count_rw(a, i);
	return err;
}

int child_count_units(void *addr, size_t length)
{
	struct mutex_area *a = addr;
	uint32_t i;
	int err = 0;

	(void)length;
	for (i = 0; i < a->rounds && err == 0; i++) {
		err = shm_acquire(addr, NULL);
		if (err == 0 && __atomic_add_fetch(&a->inside, 1, __ATOMIC_SEQ_CST) > 2)
			return 1;
		__atomic_fetch_sub(&a->inside, 1, __ATOMIC_SEQ_CST);
		if (err == 0)
			err = shm_release(addr);
	}
	return err;
}

int child_contest(void *addr, size_t length)
{
	struct mutex_area *a = addr;
	uint32_t me = __atomic_fetch_add(&a->done, 1, __ATOMIC_SEQ_CST);
	int err = 0;

	(void)length;
	while (err == 0 && __atomic_load_n(&a->inside, __ATOMIC_SEQ_CST) < (uint32_t)a->act[0]) {
		err = shm_lock(&a->lock, NULL);
		if (err == 0 && (uint32_t)++a->result[me] == a->rounds)
			__atomic_fetch_add(&a->inside, 1, __ATOMIC_SEQ_CST);
		if (err == 0)
			err = shm_unlock(&a->lock);
	}
	return err;
}
