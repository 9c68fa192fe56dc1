/* A small C program that forks a child that exits, and waits for it, N times. Prints ns per child. */
#include "../loops.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000;
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	if (loop_fork(n) != 0)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%f\n", ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / (double)n);
	return 0;
}
