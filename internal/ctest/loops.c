#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "children.h"
#include "loops.h"

#include "../../csrc/futex.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int loop_map(long n, int dev_zero, int flags, size_t length)
{
	volatile char *p;
	int fd = -1;

	while (n-- > 0) {
		if (dev_zero) {
			if ((fd = open("/dev/zero", O_RDWR | O_CLOEXEC)) == -1)
				return errno;
			p = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);
		} else {
			p = mmap(NULL, length, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
		}
		if (p == MAP_FAILED)
			return errno;
		if (dev_zero)
			close(fd);
		*p = 1;
		if (munmap((void *)p, length) == -1)
			return errno;
	}
	return 0;
}

int loop_fork(long n)
{
	int status;
	pid_t pid;

	while (n-- > 0) {
		switch (pid = fork()) {
		case -1:
			return errno;
		case 0:
			_exit(0);
		}
		if (waitpid(pid, &status, 0) == -1)
			return errno;
		if (status != 0)
			return ECHILD;
	}
	return 0;
}

static void await(uint32_t *word, uint32_t value)
{
	uint32_t seen;

	while ((seen = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != value)
		shm_futex_wait(word, seen, -1);
}

static void pass(uint32_t *word, uint32_t from, uint32_t to)
{
	await(word, from);
	__atomic_store_n(word, to, __ATOMIC_SEQ_CST);
	shm_futex_wake(word);
}

int loop_ping_pong(long n)
{
	uint32_t *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;
	long i;

	if (word == MAP_FAILED)
		return errno;
	pid = fork();
	if (pid == -1)
		return errno;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (i = 0; i < n; i++)
			pass(word, 1, 0);
		_exit(0);
	}
	for (i = 0; i < n; i++)
		pass(word, 0, 1);
	await(word, 0);
	waitpid(pid, NULL, 0);
	munmap(word, 4096);
	return 0;
}

int loop_grow(long n, size_t first, size_t last)
{
	long page = sysconf(_SC_PAGESIZE);

	while (n-- > 0) {
		volatile char *p = NULL, *q;
		size_t length, touched = 0;

		for (length = first; length <= last; length *= 2) {
			if ((q = realloc((void *)p, length)) == NULL)
				return ENOMEM;
			for (p = q; touched < length; touched += (size_t)page)
				p[touched] = 1;
		}
		free((void *)p);
	}
	return 0;
}

void copy_memory(void *dst, const void *src, size_t length)
{
	memcpy(dst, src, length);
}

static struct {
	pthread_t thread;
	pid_t pid;
	int tid;
	int *astray;
	int stop;
	struct sigaction saved;
} storm;

static void on_signal(int sig)
{
	(void)sig;
	if (getpid() != storm.pid && storm.astray != NULL)
		__atomic_store_n(storm.astray, 1, __ATOMIC_SEQ_CST);
}

static void *send_signals(void *unused)
{
	while (!__atomic_load_n(&storm.stop, __ATOMIC_SEQ_CST)) {
		if (storm.tid == 0)
			kill(0, SIGUSR2);
		else
			syscall(SYS_tgkill, storm.pid, storm.tid, SIGUSR2);
		usleep(20);
	}
	return unused;
}

int interrupt_start(int tid, int *astray)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | (tid == 0 ? SA_RESTART : 0) };

	storm.pid = getpid();
	storm.tid = tid;
	storm.astray = astray;
	sigaction(SIGUSR2, &sa, &storm.saved);
	storm.stop = 0;
	return pthread_create(&storm.thread, NULL, send_signals, NULL);
}

void interrupt_stop(void)
{
	__atomic_store_n(&storm.stop, 1, __ATOMIC_SEQ_CST);
	pthread_join(storm.thread, NULL);
	sigaction(SIGUSR2, &storm.saved, NULL);
}

void ignore_children(int yes)
{
	static struct sigaction saved;
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	if (yes)
		sigaction(SIGCHLD, &ignore, &saved);
	else
		sigaction(SIGCHLD, &saved, NULL);
}

static struct {
	pid_t pid;
	int *ran;
} at_exit;

static void on_exit_store(void)
{
	if (getpid() != at_exit.pid)
		*at_exit.ran = 1;
}

int at_exit_store(int *ran)
{
	at_exit.pid = getpid();
	at_exit.ran = ran;
	return atexit(on_exit_store) == 0 ? 0 : ENOMEM;
}

int64_t clock_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int child_clock(void *addr, size_t length)
{
	(void)length;
	*(volatile int64_t *)addr = clock_now();
	return 0;
}
