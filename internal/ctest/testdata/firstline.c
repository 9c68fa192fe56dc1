/*
 * A small C program that forks a child that exits, and waits for it, N times, with
 * so many MiB of memory of its own, touched. Prints the median ns from the fork to
 * the child's first line, those until the child is reaped, and this process's page
 * faults per child.
 */
#include "../children.h"
#include "../loops.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static int measure(long n, int64_t *clock, int64_t *first, int64_t *reaped)
{
	int status;
	long i;

	for (i = 0; i < n; i++) {
		int64_t begin = clock_now();
		pid_t pid = fork();

		if (pid == 0)
			_exit(child_clock(clock, 8));
		if (pid == -1 || waitpid(pid, &status, 0) != pid || status != 0)
			return 1;
		first[i] = *clock - begin;
		reaped[i] = clock_now() - begin;
	}
	return 0;
}

int main(int argc, char **argv)
{
	long n = argc > 2 ? atol(argv[2]) : 1000, before; /* argv[1] is "fork" */
	size_t heap = argc > 3 ? (size_t)atol(argv[3]) << 20 : 0;
	int64_t *clock = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t *times = calloc((size_t)n, 2 * sizeof(*times));
	char *touched = malloc(heap + 1);

	if (clock == MAP_FAILED || times == NULL || touched == NULL)
		exit(1);
	memset(touched, 1, heap + 1);
	memset(times, 1, (size_t)n * 2 * sizeof(*times));
	before = faults();
	if (measure(n, clock, times, times + n) != 0)
		exit(1);
	before = faults() - before;
	qsort(times, (size_t)n, sizeof(*times), compare);
	qsort(times + n, (size_t)n, sizeof(*times), compare);
	printf("%lld %lld %f\n", (long long)times[n / 2], (long long)times[n + n / 2], (double)before / (double)n);
	free(touched);
	return 0;
}
