#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "spin.h"

#include <pthread.h>
#include <time.h>

static long used_ms(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *spin(void *ms)
{
	long end = used_ms(CLOCK_THREAD_CPUTIME_ID) + (long)ms;

	while (used_ms(CLOCK_THREAD_CPUTIME_ID) < end)
		;
	return NULL;
}

int child_spin(void *unused, size_t ms)
{
	(void)unused;
	spin((void *)ms);
	return 0;
}

int child_spin_threads(void *unused, size_t ms)
{
	pthread_t threads[3];
	int i;

	(void)unused;
	for (i = 0; i < 3; i++)
		if (pthread_create(&threads[i], NULL, spin, (void *)ms) != 0)
			return 1;
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
