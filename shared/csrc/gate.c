#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "gate.h"
#include "../../csrc/futex.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

enum { NANOSECONDS = 1000000000 };

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * NANOSECONDS + t.tv_nsec;
}

struct shm_deadline shm_deadline_of(const struct timespec *timeout)
{
	struct shm_deadline end = { -1 };

	if (timeout != NULL && timeout->tv_sec < 0)
		end.at = 0;
	else if (timeout != NULL && timeout->tv_sec < INT64_MAX / NANOSECONDS / 2)
		end.at = now() + (int64_t)timeout->tv_sec * NANOSECONDS + timeout->tv_nsec;
	return end;
}

int64_t shm_deadline_left(const struct shm_deadline *end)
{
	int64_t left;

	if (end->at < 0)
		return -1;
	left = end->at - now();
	return left > 0 ? left : 0;
}

int shm_sleep(uint32_t *word, uint32_t value, const struct shm_deadline *end)
{
	int64_t left = shm_deadline_left(end);

	if (left == 0)
		return ETIMEDOUT;
	if (left < 0 || left > NANOSECONDS)
		left = NANOSECONDS;
	shm_futex_wait(word, value, left);
	return 0;
}

int shm_rouse(uint32_t *word, int n)
{
	return (int)syscall(SYS_futex, word, SHM_FUTEX_WAKE, n, NULL, NULL, 0);
}

void shm_bell_ring(void)
{
	uint32_t *bell;

	if (shm_family.table == NULL)
		return;
	bell = &shm_family.table->bell;
	__atomic_fetch_add(bell, 1, __ATOMIC_SEQ_CST);
	shm_rouse(bell, INT_MAX);
}

uint32_t shm_gate_enter(struct shm_gate *gate)
{
	uint32_t seq = __atomic_load_n(&gate->seq, __ATOMIC_SEQ_CST);

	__atomic_fetch_or(&gate->sleepers, SHM_SLEEPS_BY_FUTEX, __ATOMIC_SEQ_CST);
	return seq;
}

int shm_gate_sleep(struct shm_gate *gate, uint32_t seq, const struct shm_deadline *end)
{
	return shm_sleep(&gate->seq, seq, end);
}

void shm_gate_wake(struct shm_gate *gate)
{
	uint32_t sleepers;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&gate->sleepers, __ATOMIC_RELAXED) == 0)
		return;
	sleepers = __atomic_exchange_n(&gate->sleepers, 0, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&gate->seq, 1, __ATOMIC_SEQ_CST);
	if (sleepers & SHM_SLEEPS_BY_FUTEX)
		shm_rouse(&gate->seq, INT_MAX);
	if (sleepers & SHM_SLEEPS_BY_BELL)
		shm_bell_ring();
}
