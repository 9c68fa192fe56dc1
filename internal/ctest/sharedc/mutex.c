#include "mutex.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <unistd.h>

static int act(shm_mutex *l, int32_t what)
{
	const struct timespec moment = { 0, 2 * 1000 * 1000 };

	switch (what) {
	case MUTEX_LOCK:
		return shm_lock(l, NULL);
	case MUTEX_TRYLOCK:
		return shm_trylock(l);
	case MUTEX_CONSISTENT:
		return shm_consistent(l);
	case MUTEX_UNLOCK:
		return shm_unlock(l);
	case MUTEX_TIMED_LOCK:
		return shm_lock(l, &moment);
	case MUTEX_TRACE:
		return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 ? errno : 0;
	case MUTEX_STOP:
		return raise(SIGSTOP);
	default:
		for (;;)
			pause();
	}
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
			a->result[i] = act(l, a->act[i]);
		__atomic_store_n(&a->done, (uint32_t)i + 1, __ATOMIC_SEQ_CST);
	}
	return 0;
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
