#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* mremap */
#endif
#include "go_guard.h"
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int shm_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset, void **result)
{
	void *p = mmap(addr, length, prot, flags, fd, offset);

	if (p == MAP_FAILED)
		return errno;
	*result = p;
	return 0;
}

int shm_munmap(void *addr, size_t length)
{
	return munmap(addr, length) == -1 ? errno : 0;
}

int shm_mremap(void *old_addr, size_t old_length, size_t new_length, int flags, void *new_addr,
	       void **result)
{
	/* mremap is variadic, and some flags read the fifth argument. So it is always passed. */
	void *p = mremap(old_addr, old_length, new_length, flags, new_addr);

	if (p == MAP_FAILED)
		return errno;
	*result = p;
	return 0;
}

static int map_dev_zero(size_t length, int flags, const char **call, void **addr)
{
	int fd, err;

	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	if (fd == -1) {
		*call = "open /dev/zero";
		return errno;
	}
	err = shm_mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0, addr);
	if (err != 0)
		*call = "mmap";
	/* The mapping does not need the descriptor. Linux frees it even if close fails. */
	close(fd);
	return err;
}

int shm_map(enum shm_technique technique, size_t length, int flags, const char **call, void **addr)
{
	switch (technique) {
	case SHM_ANONYMOUS:
		*call = "mmap";
		return shm_mmap(NULL, length, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0, addr);
	case SHM_DEV_ZERO:
		return map_dev_zero(length, flags, call, addr);
	}
	*call = "mmap";
	return EINVAL;
}

/*
 * Gives the child the dispositions of a new C program. With the inherited settings, a
 * signal would run a handler of the parent, on a stack that the child must not
 * use. sigaction refuses two signals that libc keeps for itself. These two stay as
 * they are, since setuid and pthread_cancel need their handlers in the child too.
 */
static void reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	stack_t none = { .ss_flags = SS_DISABLE };
	int sig;

	for (sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigaltstack(&none, NULL);
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/*
 * Between fork and the child's function, the child makes async-signal-safe calls
 * only, as in any program with threads (signal-safety(7)). The child never returns
 * from here, since the other threads of the program do not exist in it.
 */
int shm_fork_start(void (*start)(void *arg), void *arg, pid_t *pid, int64_t *fork_time)
{
	sigset_t all, saved;
	int64_t began;
	pid_t p;
	int err = 0;

	/*
	 * No handler of the parent may run in the child. Also, a signal that
	 * arrives during fork makes the kernel start the copy again. In a large
	 * process with a profiling timer, fork would never end.
	 */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	began = now();
	switch (p = fork()) {
	case -1:
		err = errno;
		break;
	case 0:
		reset_signals();
		shm_refuse_go(NULL);
		start(arg);
		_exit(127);
	default:
		*pid = p;
		*fork_time = now() - began;
	}
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return err;
}

struct call {
	shm_child child;
	void *addr;
	size_t length;
};

static void start_call(void *arg)
{
	struct call *c = arg;
	sigset_t empty;

	sigemptyset(&empty);
	sigprocmask(SIG_SETMASK, &empty, NULL);
	_exit(c->child(c->addr, c->length));
}

int shm_fork(shm_child child, void *addr, size_t length, pid_t *pid)
{
	struct call c = { child, addr, length };
	int64_t fork_time;

	return shm_fork_start(start_call, &c, pid, &fork_time);
}

int shm_waitpid(pid_t pid, int options, pid_t *wpid, int *status)
{
	int s = 0;
	pid_t p = waitpid(pid, &s, options);

	if (p == -1)
		return errno;
	*wpid = p;
	*status = s;
	return 0;
}

/* Returns the status word that waitpid(2) returns for the same change. */
static int wait_status(const siginfo_t *info)
{
	switch (info->si_code) {
	case CLD_EXITED:
		return info->si_status << 8;
	case CLD_DUMPED:
		return info->si_status | 0x80;
	case CLD_STOPPED:
	case CLD_TRAPPED:
		return info->si_status << 8 | 0x7f;
	case CLD_CONTINUED:
		return 0xffff;
	}
	return info->si_status; /* CLD_KILLED */
}

int shm_waitid(int id_type, int id, int options, pid_t *wpid, int *status, struct rusage *usage)
{
	siginfo_t info = { .si_pid = 0 };

	/* The waitid of libc has no argument for the usage. */
	if (syscall(SYS_waitid, id_type, id, &info, options, usage) == -1)
		return errno;
	*wpid = info.si_pid;
	if (info.si_pid != 0)
		*status = wait_status(&info);
	return 0;
}
