/*
 * Preloaded into a test's program: calls of the shim that fail, or at which a
 * child is killed. The environment says which.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static long number(const char *name)
{
	const char *value = getenv(name);

	return value == NULL ? 0 : atol(value);
}

/* SHM_TEST_STEP: the how many-th call of those below kills a child that makes it. */
static int steps = -1; /* of this child; -1 in the parent */

static void step(void)
{
	if (steps >= 0 && ++steps == number("SHM_TEST_STEP")) {
		syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
		for (;;)
			;
	}
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/*
 * SHM_TEST_FORK_ERRNO: what fork fails with. SHM_TEST_FORK_FILLS: the parent
 * has no descriptor left after it.
 */
pid_t fork(void)
{
	int err = (int)number("SHM_TEST_FORK_ERRNO");
	int fills = (int)number("SHM_TEST_FORK_FILLS");
	pid_t pid;

	if (err != 0) {
		errno = err;
		return -1;
	}
	pid = REAL(fork)();
	if (pid == 0)
		steps = 0;
	while (pid > 0 && fills && open("/dev/null", O_RDONLY | O_CLOEXEC) != -1)
		;
	return pid;
}

int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	step();
	return REAL(sigaction)(sig, act, old);
}

int sigaltstack(const stack_t *stack, stack_t *old)
{
	step();
	return REAL(sigaltstack)(stack, old);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	step();
	return REAL(sigprocmask)(how, set, old);
}

/* SHM_TEST_ORPHAN: a descriptor to say so by, once the parent may be killed. The child goes on when it is. */
int prctl(int option, ...)
{
	int orphan = (int)number("SHM_TEST_ORPHAN");
	va_list args;
	unsigned long arg;

	step();
	va_start(args, option);
	arg = va_arg(args, unsigned long);
	va_end(args);
	if (steps >= 0 && orphan != 0) {
		long parent = syscall(SYS_getppid);

		if (write(orphan, "forked", 6) != 6)
			abort();
		while (syscall(SYS_getppid) == parent)
			usleep(100);
	}
	return (int)syscall(SYS_prctl, option, arg, 0, 0, 0);
}

pid_t getppid(void)
{
	step();
	return (pid_t)syscall(SYS_getppid);
}

int nice(int increment)
{
	step();
	return REAL(nice)(increment);
}

/* The shim is compiled for 64-bit offsets. glibc has another function for these. */
#ifdef __GLIBC__
int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
	step();
	return REAL(setrlimit64)(resource, limit);
}
#else
int setrlimit(int resource, const struct rlimit *limit)
{
	step();
	return REAL(setrlimit)(resource, limit);
}
#endif

long syscall(long number, ...)
{
	va_list args;
	long a[6];
	int i;

	if (number != SYS_kill && number != SYS_getpid)
		step();
	va_start(args, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
