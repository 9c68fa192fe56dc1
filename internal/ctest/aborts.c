#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "aborts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

/* Not static: the compiler gives those other names. */
int abort_here(size_t how);
int abort_outer(size_t how);
int length_of(const char *s);

static volatile int kept;

NOINLINE int abort_here(size_t how)
{
	static char no_memory[64];
	char *volatile p = no_memory + 16;

	switch (how) {
	case 1:
		abort();
	case 2:
		assert(how == 0);
		break;
	case 3:
		free(p);
		break;
	}
	return kept;
}

NOINLINE int abort_outer(size_t how)
{
	int result = abort_here(how);

	kept++;
	return result;
}

int child_abort(void *addr, size_t how)
{
	int result;

	(void)addr;
	result = abort_outer(how);
	kept++;
	return result;
}

NOINLINE int length_of(const char *s)
{
	int n = (int)strlen(s);

	kept++;
	return n;
}

int child_bad_string(void *addr, size_t unused)
{
	const char *volatile s = (const char *)16;
	int n;

	(void)addr;
	(void)unused;
	n = length_of(s);
	kept++;
	return n;
}

int do_abort(const void *in, size_t in_length, struct shm_out *out)
{
	int result;

	(void)in;
	(void)out;
	result = abort_outer(in_length);
	kept++;
	return result;
}

/*
 * The unwinder finds the callers by the stack. Here it meets zeros, or addresses
 * that are none.
 */
int child_abort_on(void *addr, size_t how)
{
	char *volatile frame = __builtin_frame_address(0);

	(void)addr;
	memset(frame, how == 1 ? 0 : 0xaa, 64);
	abort();
}

int has_unwinder(void)
{
#ifdef __GLIBC__
	return __GLIBC__ > 2 || __GLIBC_MINOR__ >= 35;
#else
	return 0;
#endif
}
