#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "forker.h"
#include "identity.h"
#include "shm.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>

static struct {
	uint64_t process; /* the token of the process that has the thread */
	sem_t wanted, done;

	void (*job)(void);

	/* arguments */
	void (*start)(void *arg);
	void *arg;

	pid_t pid; /* the result of a fork, and the child to reap or to look for */
	int64_t fork_time;
	int err;
} forker;

/* sem_wait(3), continued after signals. */
static void sem_wait_whole(sem_t *sem)
{
	while (sem_wait(sem) == -1)
		; /* EINTR */
}

static void do_fork(void)
{
	forker.err = shm_fork_start(forker.start, forker.arg, &forker.pid, &forker.fork_time);
}

static void do_reap(void)
{
	waitpid(forker.pid, NULL, WNOHANG | __WNOTHREAD);
}

static void do_look(void)
{
	siginfo_t info;

	forker.err = waitid(P_PID, (id_t)forker.pid, &info, WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD);
}

static void *keep_forking(void *unused)
{
	(void)unused;
	for (;;) {
		sem_wait_whole(&forker.wanted);
		forker.job();
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

static void run_by_forker(void (*job)(void))
{
	forker.job = job;
	sem_post(&forker.wanted);
	sem_wait_whole(&forker.done);
}

void shm_reap_by_forker(pid_t pid)
{
	if (forker.process != shm_process_token())
		return; /* it has no children */
	forker.pid = pid;
	run_by_forker(do_reap);
}

int shm_is_forkers_child(pid_t pid)
{
	if (forker.process != shm_process_token())
		return 0; /* it has no children */
	forker.pid = pid;
	run_by_forker(do_look);
	return forker.err == 0;
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
	run_by_forker(do_fork);
	if (forker.err != 0)
		return forker.err;
	*pid = forker.pid;
	*fork_time = forker.fork_time;
	return 0;
}
