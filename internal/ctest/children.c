#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "children.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int child_exit(void *addr, size_t status)
{
	(void)addr;
	return (int)status;
}

int child_status(void *addr, size_t length)
{
	(void)length;
	return *(volatile int *)addr;
}

int child_read(void *addr, size_t unused)
{
	(void)unused;
	return *(volatile unsigned char *)addr;
}

int child_write(void *addr, size_t value)
{
	*(volatile unsigned char *)addr = (unsigned char)value;
	return 0;
}

int child_swap(void *addr, size_t old_new)
{
	volatile unsigned char *p = addr;

	if (*p != (old_new & 0xff))
		return 1;
	*p = (unsigned char)(old_new >> 8);
	return 0;
}

int child_raise(void *unused, size_t sig)
{
	(void)unused;
	kill(getpid(), (int)sig);
	return 99;
}

int child_signal(void *addr, size_t length)
{
	(void)length;
	return child_raise(NULL, (size_t) * (volatile int *)addr);
}

int child_dump(void *unused, size_t sig)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	int fd = open("/proc/self/coredump_filter", O_WRONLY);
	if (fd == -1 || write(fd, "0", 1) != 1)
		return 98;
	setrlimit(RLIMIT_CORE, &unlimited);
	return child_raise(unused, sig);
}

int child_pause(void *addr, size_t length)
{
	(void)addr, (void)length;
	for (;;)
		pause();
}

int child_until(void *addr, size_t length)
{
	volatile int *p = addr;

	(void)length;
	while (*p == 0)
		usleep(200);
	return *p;
}

int child_chain(void *addr, size_t depth)
{
	int status;
	pid_t pid;

	++*(volatile unsigned char *)addr;
	if (depth == 0)
		return 0;
	switch (pid = fork()) {
	case -1:
		return 1;
	case 0:
		_exit(child_chain(addr, depth - 1));
	}
	if (waitpid(pid, &status, 0) == -1 || !WIFEXITED(status))
		return 2;
	return WEXITSTATUS(status);
}

int child_count(void *addr, size_t length)
{
	int i;

	(void)length;
	for (i = 0; i < 10000; i++)
		__atomic_fetch_add((int *)addr, 1, __ATOMIC_SEQ_CST);
	return 0;
}

int child_increment(void *addr, size_t len)
{
	(void)len;
	++*(volatile int *)addr;
	return 0;
}

int child_first_last(void *addr, size_t len)
{
	volatile unsigned char *p = addr;

	p[0] = 1;
	p[len - 1] = 2;
	return 0;
}

int child_unmap(void *addr, size_t length)
{
	return munmap(addr, length) == -1;
}

int child_remap(void *addr, size_t length)
{
	void *elsewhere = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *p;

	if (elsewhere == MAP_FAILED)
		return 1;
	p = mremap(addr, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere);
	if (p != elsewhere)
		return 2;
	*p = 7;
	return 0;
}

int child_threads(void *unused, size_t n)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	int threads = 0;

	(void)unused, (void)n;
	if (d == NULL)
		return 255;
	while ((e = readdir(d)) != NULL)
		threads += e->d_name[0] != '.';
	closedir(d);
	return threads;
}

int child_parent(void *addr, size_t length)
{
	(void)length;
	*(volatile int *)addr = getppid();
	return 0;
}

int child_fresh(void *unused, size_t n)
{
	struct sigaction sa;
	sigset_t blocked;
	stack_t stack;
	int sig;

	(void)unused, (void)n;
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (sig = 1; sig <= SIGRTMAX; sig++) {
		if (sigismember(&blocked, sig) == 1)
			return 200;
		if (sigaction(sig, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL)
			return sig;
	}
	if (sigaltstack(NULL, &stack) == -1 || !(stack.ss_flags & SS_DISABLE))
		return 201;
	return 0;
}

int child_locked(void *unused, size_t n)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");
	long kb = -1;

	(void)unused, (void)n;
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmLck:", 6) == 0)
			kb = atol(line + 6);
	return kb != 0;
}

int child_malloc(void *unused, size_t n)
{
	char *p[64];
	size_t i, round;

	(void)unused, (void)n;
	for (round = 0; round < 8; round++) {
		for (i = 0; i < 64; i++) {
			if ((p[i] = malloc((i + 1) * 3000)) == NULL)
				return 1;
			memset(p[i], (int)i, (i + 1) * 3000);
		}
		for (i = 0; i < 64; i++)
			free(p[i]);
	}
	return 0;
}
