#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "denial.h"
#include "report.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* The ABI of this program (AUDIT_ARCH_*), and where a system call has arguments and its result. */
#if defined(__x86_64__)
enum { ABI = 0xc000003e };
#define ARGUMENTS REG_RDI, REG_RSI, REG_RDX, REG_R10
#define REGISTER(context, i) (context)->uc_mcontext.gregs[i]
#define RESULT REG_RAX
#elif defined(__i386__)
enum { ABI = 0x40000003 };
#define ARGUMENTS REG_EBX, REG_ECX, REG_EDX, REG_ESI
#define REGISTER(context, i) (context)->uc_mcontext.gregs[i]
#define RESULT REG_EAX
#elif defined(__aarch64__)
enum { ABI = 0xc00000b7 };
#define ARGUMENTS 0, 1, 2, 3
#define REGISTER(context, i) (context)->uc_mcontext.regs[i]
#define RESULT 0
#elif defined(__arm__)
enum { ABI = 0x40000028 };
#define ARGUMENTS 0, 1, 2, 3
#define REGISTER(context, i) (&(context)->uc_mcontext.arm_r0)[i]
#define RESULT 0
#elif defined(__riscv)
enum { ABI = 0xc00000f3 };
#define ARGUMENTS 10, 11, 12, 13
#define REGISTER(context, i) (context)->uc_mcontext.__gregs[i]
#define RESULT 10
#else /* no filter is assembled for it */
enum { ABI = 0 };
#define ARGUMENTS 0, 0, 0, 0
#define REGISTER(context, i) (*(long *)(context))
#define RESULT 0
#endif

static const int registers[] = { ARGUMENTS };

static uintptr_t argument(const ucontext_t *context, int i)
{
	return (uintptr_t)REGISTER(context, registers[i]);
}

enum { SIGNAL_SET = 8 }; /* the length of the kernel's set of signals, in bytes */

/*
 * sigprocmask(2), without SIGSYS. If that were blocked, a denied call could not be
 * recorded. The C library blocks all signals around what a child is most likely to
 * be denied: to make threads and processes.
 */
static long mask_signals(ucontext_t *context)
{
	const uint64_t own = (uint64_t)1 << (SIGSYS - 1);
	const void *set = (const void *)argument(context, 1);
	void *old = (void *)argument(context, 2);
	uint64_t mask, wanted = 0;

	if (argument(context, 3) != SIGNAL_SET)
		return -EINVAL;
	memcpy(&mask, &context->uc_sigmask, SIGNAL_SET);
	if (old != NULL)
		memcpy(old, &mask, SIGNAL_SET);
	if (set == NULL)
		return 0;
	memcpy(&wanted, set, SIGNAL_SET);
	switch ((int)argument(context, 0)) {
	case SIG_BLOCK:
		mask |= wanted;
		break;
	case SIG_UNBLOCK:
		mask &= ~wanted;
		break;
	case SIG_SETMASK:
		mask = wanted;
		break;
	default:
		return -EINVAL;
	}
	mask &= ~own;
	memcpy(&context->uc_sigmask, &mask, SIGNAL_SET);
	return 0;
}

/* Whether the C library opens the file in malloc, free, qsort or sysconf, and goes on without it. */
static int is_opened_in_passing(const char *path)
{
	static const char *const paths[] = {
		"/proc/sys/vm/overcommit_memory",
		"/sys/devices/system/cpu/online",
		"/proc/meminfo",
		"/proc/stat",
	};
	size_t i;

	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (strcmp(path, paths[i]) == 0)
			return 1;
	return 0;
}

/* Answers a denied call, and returns whether it did. */
static int answer(const siginfo_t *info, ucontext_t *context)
{
	long result = -EACCES;

	if (info->si_arch != (unsigned)ABI)
		return 0;
	switch (info->si_syscall) {
	case SYS_rt_sigprocmask:
		result = mask_signals(context);
		break;
#ifdef SYS_open
	case SYS_open:
		if (!is_opened_in_passing((const char *)argument(context, 0)))
			return 0;
		break;
#endif
	case SYS_openat:
		if (!is_opened_in_passing((const char *)argument(context, 1)))
			return 0;
		break;
	default:
		return 0;
	}
	REGISTER(context, RESULT) = (__typeof__(REGISTER(context, RESULT)))result;
	return 1;
}

/*
 * In the handler SIGSYS is blocked. So the child dies of it at once if the filter
 * denies sigaction(2), and else when the handler returns. gVisor lets sigaction(2)
 * fail, and would call the handler again and again.
 */
static void record_denial(int sig, siginfo_t *info, void *context)
{
	const int by_filter = 1; /* SYS_SECCOMP */
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	struct shm_crash *r;
	int err = errno;

	if (info->si_code == by_filter && answer(info, context)) {
		errno = err;
		return;
	}
	r = shm_record_signal(sig, info, context);
	if (r != NULL && info->si_code == by_filter) {
		r->syscall = info->si_syscall;
		r->arch = info->si_arch;
	}
	if (sigaction(sig, &dfl, NULL) != 0)
		_exit(128 + SIGSYS);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
}

void shm_report_denials(void)
{
	struct sigaction action = { .sa_sigaction = record_denial, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigaction(SIGSYS, &action, NULL);
}
