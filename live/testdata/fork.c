/* fork COUNT MIB: forks with that much memory of malloc's touched, and prints what it took: see live/bench_test.go. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	int64_t pause = 0, first = 0, total = 0;
	int64_t *begun = mmap(NULL, sizeof(*begun), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int i, status, count = argc == 3 ? atoi(argv[1]) : 0;
	size_t size = count > 0 ? (size_t)atoi(argv[2]) << 20 : 0;
	char *heap = malloc(size);

	if (count == 0 || begun == MAP_FAILED || (size > 0 && heap == NULL))
		return 1;
	memset(heap, 1, size);
	for (i = 0; i < count; i++) {
		int64_t start = now(), forked;
		pid_t pid = fork();

		if (pid == 0) {
			*begun = now();
			_exit(0);
		}
		forked = now();
		if (pid == -1 || waitpid(pid, &status, 0) != pid || status != 0)
			return 1;
		total += now() - start;
		pause += forked - start;
		first += *begun - start;
	}
	printf("%lld %lld %lld\n", (long long)(pause / count), (long long)(first / count), (long long)(total / count));
	return 0;
}
