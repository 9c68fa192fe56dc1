#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_clone3
#define SYS_clone3 435 /* Linux 5.3 */
#endif

static int warmth;

static int *word(void *addr, size_t offset)
{
	return (int *)(void *)((char *)addr + offset);
}

static void *return_at_once(void *arg)
{
	return arg;
}

static void *stay(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* An error-checking mutex compares the thread ids that libc has. */
static int has_right_tid(void)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t mutex;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&mutex, &attr);
	if (pthread_mutex_lock(&mutex) != 0 || pthread_mutex_lock(&mutex) != EDEADLK)
		return 0;
#ifdef __GLIBC__
	if (mutex.__data.__owner != (int)syscall(SYS_gettid))
		return 0;
#endif
	return pthread_mutex_unlock(&mutex) == 0;
}

int child_tid(void *addr, size_t length)
{
	pthread_t thread;
	void *result = NULL;

	(void)length;
	if (getpid() != (int)syscall(SYS_gettid) || !has_right_tid())
		return 1;
	if (pthread_create(&thread, NULL, return_at_once, addr) != 0 || pthread_join(thread, &result) != 0 || result != addr)
		return 2;
	if (pthread_kill(pthread_self(), 0) != 0)
		return 3;
	return 0;
}

static pthread_mutex_t *robust_at(void *addr)
{
	return (pthread_mutex_t *)(void *)((char *)addr + 64);
}

static void make_robust(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(mutex, &attr);
}

int child_own_dead(void *addr, size_t length)
{
	(void)length;
	make_robust(robust_at(addr));
	pthread_mutex_lock(robust_at(addr));
	kill(getpid(), SIGKILL);
	return 1;
}

int child_heir(void *addr, size_t length)
{
	(void)length;
	return pthread_mutex_lock(robust_at(addr)) == EOWNERDEAD ? 0 : 1;
}

int child_forks(void *addr, size_t length)
{
	pid_t self = getpid(), pid = fork();
	int status;

	(void)addr;
	(void)length;
	if (pid == 0)
		_exit(getppid() == self && has_right_tid() ? 7 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 0 : 1;
}

int child_warm(void *addr, size_t length)
{
	(void)addr;
	(void)length;
	return warmth;
}

int child_stop_server(void *addr, size_t length)
{
	(void)length;
	return kill(*word(addr, 0), SIGSTOP);
}

int child_kill(void *addr, size_t length)
{
	(void)length;
	return kill(*word(addr, 0), SIGKILL);
}

int child_answer(void *addr, size_t length)
{
	const uint32_t answer[2] = { 1, 0 };

	(void)length;
	if (send(*word(addr, 0), answer, sizeof(answer), 0) == -1)
		return errno;
	while (*word(addr, 4) == 0)
		pause();
	return 0;
}

/* The arguments of clone3(2), up to what Linux 5.5 has. */
struct clone_args3 {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size;
};

int clone_at(int pid)
{
	struct clone_args3 args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };
	long got = syscall(SYS_clone3, &args, sizeof(args));

	if (got == 0)
		for (;;)
			syscall(SYS_ppoll, NULL, 0, NULL, NULL, 8);
	return got == -1 ? errno : 0;
}

int child_peek(void *addr, size_t length)
{
	int byte;
	struct iovec local = { &byte, sizeof(byte) }, remote = { &warmth, sizeof(warmth) };

	(void)length;
	*word(addr, 0) = process_vm_readv(*word(addr, 0), &local, 1, &remote, 1, 0) == -1 ? errno : 0;
	return 0;
}

int child_uid(void *addr, size_t length)
{
	if (setgid(65534) == -1 || setuid(65534) == -1)
		return 1;
	return child_peek(addr, length);
}

int child_sockets(void *unused, size_t n)
{
	struct stat st;
	int fd, found = 0;

	(void)unused;
	(void)n;
	for (fd = 0; fd < 1024; fd++)
		found += fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	return found;
}

int init_warm(void *addr, size_t length)
{
	(void)length;
	warmth = __atomic_add_fetch(word(addr, 128), 1, __ATOMIC_SEQ_CST);
	return 0;
}

int init_fail(void *addr, size_t length)
{
	(void)addr;
	(void)length;
	return 3;
}

int init_crash(void *addr, size_t length)
{
	(void)addr;
	(void)length;
	return *(volatile int *)16;
}

int init_exit(void *addr, size_t length)
{
	(void)addr;
	(void)length;
	_exit(0);
}

int init_thread(void *addr, size_t length)
{
	pthread_t thread;

	(void)length;
	return pthread_create(&thread, NULL, stay, addr);
}

int init_joined(void *addr, size_t length)
{
	pthread_t thread;

	(void)length;
	if (pthread_create(&thread, NULL, return_at_once, addr) != 0)
		return 1;
	return pthread_join(thread, NULL);
}

int init_locked(void *addr, size_t length)
{
	(void)length;
	make_robust(robust_at(addr));
	return pthread_mutex_lock(robust_at(addr));
}

int init_once(void *addr, size_t length)
{
	(void)length;
	return __atomic_fetch_add(word(addr, 128), 1, __ATOMIC_SEQ_CST) == 0 ? 0 : 4;
}

int init_slow(void *addr, size_t length)
{
	(void)length;
	while (__atomic_load_n(word(addr, 128), __ATOMIC_SEQ_CST) == 1) {
		__atomic_store_n(word(addr, 132), 1, __ATOMIC_SEQ_CST);
		usleep(100);
	}
	return 0;
}

int init_stop(void *addr, size_t length)
{
	(void)length;
	if (__atomic_load_n(word(addr, 128), __ATOMIC_SEQ_CST) != 1)
		return 0;
	__atomic_store_n(word(addr, 132), 1, __ATOMIC_SEQ_CST);
	return raise(SIGSTOP);
}
