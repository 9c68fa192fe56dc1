#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "do.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int do_echo(const void *in, size_t in_length, struct shm_out *out)
{
	void *answer = shm_out_reserve(out, in_length);

	if (answer == NULL)
		return 1;
	memcpy(answer, in, in_length);
	return 0;
}

int child_echo(void *addr, size_t length)
{
	memcpy((char *)addr + length / 2, addr, length / 2);
	return 0;
}

int child_begin(void *addr, size_t length)
{
	(void)length;
	__atomic_store_n((int *)addr, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

static uint64_t number_at(const void *in, size_t in_length)
{
	uint64_t n = 0;

	memcpy(&n, in, in_length < sizeof(n) ? in_length : sizeof(n));
	return n;
}

int do_fill(const void *in, size_t in_length, struct shm_out *out)
{
	uint64_t n = number_at(in, in_length);
	void *answer = shm_out_reserve(out, (size_t)n);

	if (answer == NULL)
		return 1;
	memset(answer, 0x5a, (size_t)n);
	return 0;
}

int do_shrink(const void *in, size_t in_length, struct shm_out *out)
{
	int result = do_fill(in, in_length, out);

	return shm_out_reserve(out, 1) == NULL ? 2 : result;
}

int do_append(const void *in, size_t in_length, struct shm_out *out)
{
	size_t i;

	for (i = 0; i < in_length; i++) {
		char *answer = shm_out_reserve(out, i + 1);

		if (answer == NULL)
			return 1;
		answer[i] = ((const char *)in)[i];
	}
	return shm_out_reserve(out, SIZE_MAX) == NULL && out->length == in_length ? 0 : 2;
}

int do_fail(const void *in, size_t in_length, struct shm_out *out)
{
	static const char message[] = "bad input";

	(void)in;
	(void)in_length;
	memcpy(shm_out_reserve(out, strlen(message)), message, strlen(message));
	return -3;
}

static void make_half(const void *in, size_t in_length, struct shm_out *out)
{
	memcpy(shm_out_reserve(out, in_length), in, in_length / 2);
}

int do_crash(const void *in, size_t in_length, struct shm_out *out)
{
	make_half(in, in_length, out);
	return *(volatile int *)16;
}

int do_over(const void *in, size_t in_length, struct shm_out *out)
{
	volatile char *to;

	(void)in;
	(void)in_length;
	for (to = shm_out_reserve(out, 1);; to++)
		*to = 1;
}

int do_before(const void *in, size_t in_length, struct shm_out *out)
{
	volatile char *to;

	(void)in_length;
	(void)out;
	for (to = (volatile char *)(uintptr_t)in;; to--)
		*to = 1;
}

int do_claim(const void *in, size_t in_length, struct shm_out *out)
{
	out->length = (size_t)number_at(in, in_length);
	return 0;
}

int do_damage(const void *in, size_t in_length, struct shm_out *out)
{
	memcpy(out, in, in_length < sizeof(*out) ? in_length : sizeof(*out));
	return 0;
}

int do_pause(const void *in, size_t in_length, struct shm_out *out)
{
	make_half(in, in_length, out);
	for (;;)
		pause();
}

int do_exit(const void *in, size_t in_length, struct shm_out *out)
{
	make_half(in, in_length, out);
	_exit(0);
}

static void *change(void *answer)
{
	volatile char *c = answer;

	for (;;)
		++*c;
	return NULL;
}

int do_linger(const void *in, size_t in_length, struct shm_out *out)
{
	pthread_t thread;

	(void)in;
	(void)in_length;
	return pthread_create(&thread, NULL, change, shm_out_reserve(out, 4096));
}

int do_pid(const void *in, size_t in_length, struct shm_out *out)
{
	int32_t pid = (int32_t)getpid();

	(void)in;
	(void)in_length;
	memcpy(shm_out_reserve(out, sizeof(pid)), &pid, sizeof(pid));
	return 0;
}

int do_maps(const void *in, size_t in_length, struct shm_out *out)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], perm[8];
	size_t length = 0;

	(void)in;
	(void)in_length;
	if (maps == NULL)
		return 1;
	while (fgets(line, sizeof(line), maps) != NULL) {
		char *answer;

		if (sscanf(line, "%*x-%*x %7s", perm) != 1 || strcmp(perm, "rw-s") != 0)
			continue;
		answer = shm_out_reserve(out, length + strlen(line));
		if (answer == NULL)
			break;
		memcpy(answer + length, line, strlen(line));
		length += strlen(line);
	}
	fclose(maps);
	return 0;
}
