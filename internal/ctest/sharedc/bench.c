#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int loop_lock(shm_mutex *l, long n)
{
	int err = 0;

	while (n-- > 0 && err == 0) {
		err = shm_lock(l, NULL);
		if (err == 0)
			err = shm_unlock(l);
	}
	return err;
}

static int make_robust(pthread_mutex_t *m)
{
	pthread_mutexattr_t attr;
	int err = pthread_mutexattr_init(&attr);

	if (err == 0)
		err = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (err == 0)
		err = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	return err != 0 ? err : pthread_mutex_init(m, &attr);
}

int loop_robust(long n)
{
	pthread_mutex_t *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int err;

	if (m == MAP_FAILED)
		return errno;
	err = make_robust(m);
	while (n-- > 0 && err == 0) {
		err = pthread_mutex_lock(m);
		if (err == 0)
			err = pthread_mutex_unlock(m);
	}
	munmap(m, sizeof(*m));
	return err;
}

/* Returns when both parties are here. */
static void meet(uint32_t *ready)
{
	__atomic_fetch_add(ready, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(ready, __ATOMIC_SEQ_CST) % 2 != 0)
		usleep(10);
}

int hand_over(struct hand_over *h, uint32_t party)
{
	uint32_t at = party, end = party + h->rounds;
	int err = shm_lock(&h->lock[at], NULL);

	meet(&h->ready);
	for (; at < end && err == 0; at++) {
		err = shm_lock(&h->lock[(at + 1) % 3], NULL);
		if (err == 0)
			err = shm_unlock(&h->lock[at % 3]);
	}
	return err != 0 ? err : shm_unlock(&h->lock[at % 3]);
}

int child_hand_over(void *addr, size_t length)
{
	(void)length;
	return hand_over(addr, 1);
}

struct robust_hand_over {
	pthread_mutex_t lock[3];
	uint32_t ready;
};

static void hand_over_robust(struct robust_hand_over *h, uint32_t party, long n)
{
	uint32_t at = party;

	pthread_mutex_lock(&h->lock[at]);
	meet(&h->ready);
	for (; n-- > 0; at++) {
		pthread_mutex_lock(&h->lock[(at + 1) % 3]);
		pthread_mutex_unlock(&h->lock[at % 3]);
	}
	pthread_mutex_unlock(&h->lock[at % 3]);
}

int loop_hand_over_robust(long n)
{
	struct robust_hand_over *h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int i, err = 0;
	pid_t pid;

	if (h == MAP_FAILED)
		return errno;
	for (i = 0; i < 3 && err == 0; i++)
		err = make_robust(&h->lock[i]);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		hand_over_robust(h, 1, n);
		_exit(0);
	}
	hand_over_robust(h, 0, n);
	waitpid(pid, NULL, 0);
	munmap(h, sizeof(*h));
	return err;
}
