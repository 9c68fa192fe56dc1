#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "frames.h"

#include <setjmp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <execinfo.h>
#include <gnu/libc-version.h>

#pragma weak backtrace /* a program that is linked statically has none */
#endif

enum {
	FOUND = 40,   /* how many calls are looked at: those of the handler, too */
	ESCAPED = -1, /* of sigsetjmp */
};

/* In the child: the thread that unwinds, and where it goes on if that fails. */
static volatile pid_t unwinder;
static sigjmp_buf escape;
static int was_tried, is_prepared; /* in the parent */
static const void *outermost;      /* where the function that runs the child's function returns to */

#ifdef __GLIBC__
/* Earlier ones take the loader's lock, which another thread of the parent may have had at the fork. */
static int can_unwind(void)
{
	const char *version = gnu_get_libc_version();
	char *minor;

	return backtrace != NULL && strtol(version, &minor, 10) == 2 && *minor == '.' && strtol(minor + 1, NULL, 10) >= 35;
}

static int unwind(void **to, int max)
{
	return backtrace(to, max);
}
#else
static int can_unwind(void)
{
	return 0;
}

static int unwind(void **to, int max)
{
	(void)to;
	(void)max;
	return 0;
}
#endif

void shm_prepare_frames(void)
{
	void *one[1];

	if (was_tried || !can_unwind())
		return;
	was_tried = 1;
	is_prepared = unwind(one, 1) > 0; /* without libgcc_s there is none, and each call tries to load it */
}

/* What comes before the function that crashed are the calls of its handler. The last ones are this package's. */
static uint32_t copy_callers(void *const *found, int count, uint64_t pc, struct shm_frame *frames)
{
	uint32_t n = 0;
	int i = 0;

	while (i < count && (uintptr_t)found[i] != pc)
		i++;
	for (i++; i < count && n < SHM_MAX_FRAMES; i++) {
		if (i + 1 < count && found[i + 1] == outermost)
			break;
		frames[n++].pc = (uintptr_t)found[i];
	}
	return n;
}

uint32_t shm_find_frames(uint64_t pc, struct shm_frame *frames)
{
	void *found[FOUND];
	uint32_t n = 0;

	if (!is_prepared)
		return 0;
	if (sigsetjmp(escape, 0) == 0) {
		unwinder = (pid_t)syscall(SYS_gettid);
		n = copy_callers(found, unwind(found, FOUND), pc, frames);
	}
	unwinder = 0;
	return n;
}

void shm_escape_unwinder(void)
{
	if (unwinder != 0 && unwinder == (pid_t)syscall(SYS_gettid))
		siglongjmp(escape, ESCAPED);
}

/* A call in the last place of a function would leave no frame of that function. */
#define STAYS __asm__ volatile("" :: \
				       : "memory")

__attribute__((noinline)) int shm_run_child(shm_child child, void *addr, size_t length)
{
	int result;

	outermost = __builtin_return_address(0);
	result = child(addr, length);
	STAYS;
	return result;
}

__attribute__((noinline)) int shm_run_do(shm_do work, const void *in, size_t in_length, struct shm_out *out)
{
	int result;

	outermost = __builtin_return_address(0);
	result = work(in, in_length, out);
	STAYS;
	return result;
}
