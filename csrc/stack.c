#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_setattr_default_np */
#endif
#include "stack.h"

#include <pthread.h>
#include <sys/resource.h>

static size_t wanted_stack(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur < SHM_STACK_SIZE)
		return (size_t)limit.rlim_cur;
	return SHM_STACK_SIZE;
}

/* If libc returns an error, the default stays. */
__attribute__((constructor)) static void size_stacks(void)
{
	pthread_attr_t attr;
	size_t size;

	if (pthread_attr_init(&attr) != 0)
		return;
	if (pthread_attr_getstacksize(&attr, &size) == 0 && size < wanted_stack()) {
		pthread_attr_setstacksize(&attr, wanted_stack());
		pthread_attr_setguardsize(&attr, SHM_STACK_GUARD);
		pthread_setattr_default_np(&attr);
	}
	pthread_attr_destroy(&attr);
}
