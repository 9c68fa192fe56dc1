#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "forker.h"
#include "identity.h"
#include "shm.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

static struct {
	uint64_t process; /* the token of the process that has the thread */
	sem_t wanted, done;

	/* arguments */
	void (*start)(void *arg);
	void *arg;

	/* results */
	pid_t pid;
	int64_t fork_time;
	int err;
} forker;

/* sem_wait(3), continued after signals. */
static void sem_wait_whole(sem_t *sem)
{
	while (sem_wait(sem) == -1)
		; /* EINTR */
}

static void *keep_forking(void *unused)
{
	(void)unused;
	for (;;) {
		sem_wait_whole(&forker.wanted);
		forker.err = shm_fork_start(forker.start, forker.arg, &forker.pid, &forker.fork_time);
		sem_post(&forker.done);
	}
	return NULL;
}

static int create_detached(void *(*run)(void *))
{
	pthread_attr_t attr;
	pthread_t thread;
	int err = pthread_attr_init(&attr);

	if (err != 0)
		return err;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, run, NULL);
	pthread_attr_destroy(&attr);
	return err;
}

int shm_start_forker(void)
{
	sigset_t all, saved;
	int err;

	if (forker.process == shm_process_token())
		return 0;
	sem_init(&forker.wanted, 0, 0);
	sem_init(&forker.done, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	err = create_detached(keep_forking);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (err == 0)
		forker.process = shm_process_token();
	return err;
}

int shm_fork_by_forker(void (*start)(void *arg), void *arg, pid_t *pid, int64_t *fork_time, const char **call)
{
	int err;

	*call = "pthread_create";
	err = shm_start_forker();
	if (err != 0)
		return err;
	*call = "fork";
	forker.start = start;
	forker.arg = arg;
	sem_post(&forker.wanted);
	sem_wait_whole(&forker.done);
	if (forker.err != 0)
		return forker.err;
	*pid = forker.pid;
	*fork_time = forker.fork_time;
	return 0;
}
