#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "children.h"

#include <alloca.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
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

/* Out of line, so that a report can name it. */
__attribute__((noinline)) int crash_here(volatile int *p) { return *p; }

static volatile int zero;

static void run_over(void)
{
	for (;;)
		*(volatile char *)__builtin_alloca(4096) = 1;
}

/* What the compiler traps by is a breakpoint, SIGTRAP, on some processors. */
static inline void run_nothing(void)
{
#if defined(__aarch64__)
	__asm__ volatile(".inst 0");
#elif defined(__riscv)
	__asm__ volatile(".half 0");
#else
	__builtin_trap();
#endif
}

int child_crash(void *unused, size_t how)
{
	char name[] = "/tmp/shm-child-XXXXXX";
	char *p;
	int fd;

	(void)unused;
	switch (how) {
	case 1:
		return crash_here((int *)16);
	case 2:
		return 100 / zero;
	case 3:
		run_nothing();
		break;
	case 4:
		run_over();
		break;
	case 5:
		abort();
		break;
	case 6:
		fd = mkstemp(name);
		unlink(name);
		p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
		return *(volatile char *)p;
	case 7:
		return *(volatile char *)(UINTPTR_MAX / 2 + 1); /* on x86-64; elsewhere it is an address */
	}
	return 99;
}

int child_add(void *addr, size_t length)
{
	unsigned char *p = addr;
	int sum = 0;

	while (length-- > 0)
		sum += *p++;
	return sum;
}

int child_touch_go(void *addr, size_t length)
{
	(void)length;
	return **(volatile char **)addr;
}

int child_fds(void *unused, size_t n)
{
	int fd, open = 0;

	(void)unused;
	(void)n;
	for (fd = 0; fd < 4096; fd++)
		open += fcntl(fd, F_GETFD) != -1;
	return open;
}

int child_limits(void *addr, size_t length)
{
	struct rlimit limit;
	long *out = addr;

	(void)length;
	getrlimit(RLIMIT_NOFILE, &limit);
	out[0] = (long)limit.rlim_cur;
	getrlimit(RLIMIT_CPU, &limit);
	out[1] = (long)limit.rlim_cur;
	out[2] = getpriority(PRIO_PROCESS, 0);
	return 0;
}

int child_close_all(void *unused, size_t n)
{
	(void)unused;
	(void)n;
	return (int)syscall(SYS_close_range, 0, ~0U, 0);
}

int child_sleep(void *unused, size_t ms)
{
	struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

	(void)unused;
	while (nanosleep(&t, &t) == -1)
		;
	return 0;
}

int child_pid(void *addr, size_t length)
{
	(void)length;
	*(int *)addr = getpid();
	return 0;
}

int child_leave(void *addr, size_t status)
{
	switch (fork()) {
	case -1:
		return 255;
	case 0:
		_exit(child_until(addr, 0));
	}
	return (int)status;
}

int child_grief(void *unused, size_t n)
{
	int status;
	pid_t pid;

	(void)n;
	switch (pid = fork()) {
	case -1:
		return 1;
	case 0:
		_exit(crash_here((int *)16));
	}
	if (waitpid(pid, &status, 0) == -1 || !WIFSIGNALED(status))
		return 2;
	return child_raise(unused, (size_t)WTERMSIG(status));
}

int child_plugin(void *addr, size_t length)
{
	void *library = dlopen(addr, RTLD_NOW);
	int (*fall)(void);

	(void)length;
	if (library == NULL)
		return 97;
	*(void **)&fall = dlsym(library, "fall");
	return fall == NULL ? 98 : fall();
}

void *load_function(const char *path, const char *name)
{
	void *library = dlopen(path, RTLD_NOW);

	return library == NULL ? NULL : dlsym(library, name);
}

int load_library(const char *path) { return dlopen(path, RTLD_NOW) == NULL; }

int child_traced(void *addr, size_t length)
{
	int *state = addr; /* 1 once traced; then the tracer's process id */
	pid_t parent = getpid();

	switch (fork()) {
	case -1:
		return 96;
	case 0:
		if (length == 0) /* out of the group that is killed */
			setsid();
		if (ptrace(PTRACE_SEIZE, parent, NULL, NULL) == -1)
			__atomic_store_n(state, -errno, __ATOMIC_SEQ_CST);
		else
			__atomic_store_n(state, (int)getpid(), __ATOMIC_SEQ_CST);
		for (;;)
			pause();
	}
	for (;;)
		pause();
}

int child_family(void *addr, size_t status)
{
	pid_t pid = fork();

	switch (pid) {
	case -1:
		return 255;
	case 0:
		for (;;)
			pause();
	}
	*(int *)addr = (int)pid;
	if (status > 255)
		for (;;)
			pause();
	return (int)status;
}

int child_open(void *unused, size_t n)
{
	int fd, open_ones = 0;

	(void)unused;
	(void)n;
	for (fd = 0; fd < 1 << 16; fd++)
		open_ones += fcntl(fd, F_GETFD) != -1;
	return open_ones;
}

int child_netns(void *addr, size_t length)
{
	ssize_t n = readlink("/proc/self/ns/net", addr, length - 1);

	if (n == -1)
		return 1;
	((char *)addr)[n] = '\0';
	return 0;
}

int child_stack(void *unused, size_t bytes)
{
	/* cppcheck-suppress allocaCalled */
	volatile char *array = alloca(bytes);

	(void)unused;
	array[0] = 1;
	return array[0] - 1;
}

int is_glibc(void)
{
#ifdef __GLIBC__
	return 1;
#else
	return 0;
#endif
}
