/*
 * A small C program that forks a child that exits, and waits for it, N times, with
 * so many MiB of memory of its own, touched. Prints ns per child.
 */
#include "../loops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000;
	size_t heap = argc > 2 ? (size_t)atol(argv[2]) << 20 : 0;
	struct timespec from, to;
	char *touched = NULL;

	if (heap > 0) {
		touched = malloc(heap);
		if (touched == NULL)
			return 1;
		memset(touched, 1, heap);
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	if (loop_fork(n) != 0)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &to);
	free(touched);
	printf("%f\n", ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / (double)n);
	return 0;
}
