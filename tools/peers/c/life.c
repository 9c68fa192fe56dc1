/*
 * The life of a mapping, in C: map, touch each page, fork a child and reap it,
 * add up, grow to twice the size, move, unmap. Prints the median of what each
 * step takes, and what the steps had for a result. With 0 rounds the program
 * maps, touches, forks, waits and unmaps once, and prints nothing.
 *
 *	life anonymous|devzero|memfd private|shared size rounds
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum step { MAP, TOUCH, FORK, CHILD, ACCESS, GROW, MOVE, UNMAP, STEPS };
static const char *const names[STEPS] = { "map", "touch", "fork", "child", "access", "grow", "move", "unmap" };

static size_t page, size;
static int flags, dev_zero, by_memfd;
static double *took[STEPS], faults[STEPS];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static long page_faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_minflt + u.ru_majflt;
}

static void die(const char *what)
{
	fprintf(stderr, "life: %s: %s\n", what, strerror(errno));
	exit(1);
}

static char *map(size_t length, int *fd)
{
	int f = flags;
	char *p;

	*fd = -1;
	if (dev_zero)
		*fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	else if (by_memfd)
		*fd = memfd_create("life", MFD_CLOEXEC);
	else
		f |= MAP_ANONYMOUS;
	if ((dev_zero || by_memfd) && *fd == -1)
		die("open");
	if (by_memfd && ftruncate(*fd, (off_t)length) == -1)
		die("ftruncate");
	p = mmap(NULL, length, PROT_READ | PROT_WRITE, f, *fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	if (dev_zero)
		close(*fd);
	return p;
}

static char *grow(char *p, int *fd)
{
	char *q;

	if (by_memfd && ftruncate(*fd, (off_t)(2 * size)) == -1)
		die("ftruncate");
	if (by_memfd || flags == MAP_PRIVATE)
		q = mremap(p, size, 2 * size, MREMAP_MAYMOVE, NULL);
	else { /* mremap would succeed, and the new bytes be SIGBUS */
		q = map(2 * size, fd);
		memcpy(q, p, size);
		munmap(p, size);
	}
	if (q == MAP_FAILED)
		die("mremap");
	return q;
}

static pid_t child(char *p)
{
	pid_t pid = fork();

	if (pid == -1)
		die("fork");
	if (pid == 0) {
		p[1] = 5;
		_exit(0);
	}
	return pid;
}

static uint64_t add_up(const char *p)
{
	size_t i, n = (size < 65536 ? size : 65536) / 8;
	const volatile uint64_t *w = (const void *)p;
	uint64_t sum = 0;

	for (i = 0; i < n; i++)
		sum += w[i];
	return sum;
}

static void done(int round, enum step s, double since, long faults_before)
{
	took[s][round] = now() - since;
	faults[s] += (double)(page_faults() - faults_before);
}

#define STEP(s, what) do { long f_ = page_faults(); double t_ = now(); what; done(round, s, t_, f_); } while (0)

static uint64_t life(int round)
{
	char *p, *place;
	int fd, status;
	pid_t pid;
	uint64_t sum = 0;
	size_t i;

	STEP(MAP, p = map(size, &fd));
	STEP(TOUCH, for (i = 0; i < size; i += page) p[i] = 1);
	{
		long f = page_faults();
		double t = now();

		pid = child(p);
		done(round, FORK, t, f);
		waitpid(pid, &status, 0);
		done(round, CHILD, t, f);
	}
	sum += (uint64_t)(unsigned char)p[1] + (uint64_t)status;
	STEP(ACCESS, sum += add_up(p) & 0xff);
	STEP(GROW, p = grow(p, &fd));
	p[2 * size - 1] = 2;
	sum += (uint64_t)(unsigned char)p[2 * size - 1] + (uint64_t)(unsigned char)p[size - page];
	place = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	STEP(MOVE, p = mremap(p, 2 * size, 2 * size, MREMAP_MAYMOVE | MREMAP_FIXED, place));
	if (p == MAP_FAILED)
		die("mremap");
	sum += (uint64_t)(unsigned char)p[2 * size - 1];
	STEP(UNMAP, munmap(p, 2 * size); if (by_memfd) close(fd));
	return sum;
}

/* What a parent is told of a child that crashes. */
static const char *crash(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		raise(SIGSEGV);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV ? "the signal" : "nothing";
}

/* Map, touch, fork, wait, unmap, once: for a trace of the system calls. */
static int brief(void)
{
	int fd, status;
	char *p = map(size, &fd);
	pid_t pid;

	p[0] = 1;
	pid = child(p);
	waitpid(pid, &status, 0);
	munmap(p, size);
	if (by_memfd)
		close(fd);
	return status;
}

/* The first life is not counted: it finds out what is found out once. A small one does. */
static void warm_up(int rounds)
{
	size_t whole = size;

	if (size > 1 << 20)
		size = 1 << 20;
	life(rounds);
	size = whole;
	memset(faults, 0, sizeof(faults));
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int rounds, round, s;
	uint64_t sum = 0;

	if (argc != 5) {
		fprintf(stderr, "usage: life technique sharing size rounds\n");
		return 2;
	}
	dev_zero = strcmp(argv[1], "devzero") == 0;
	by_memfd = strcmp(argv[1], "memfd") == 0;
	flags = strcmp(argv[2], "shared") == 0 ? MAP_SHARED : MAP_PRIVATE;
	size = strtoul(argv[3], NULL, 10);
	rounds = atoi(argv[4]);
	page = (size_t)sysconf(_SC_PAGESIZE);
	if (rounds == 0)
		return brief();
	for (s = 0; s < STEPS; s++)
		took[s] = calloc((size_t)rounds + 1, sizeof(double));
	warm_up(rounds);
	for (round = 0; round < rounds; round++)
		sum += life(round);
	printf("result %llu\n", (unsigned long long)sum / (unsigned long long)rounds);
	printf("note grow %s\n", by_memfd || flags == MAP_PRIVATE ? "moves pages" : "copies");
	printf("note crash %s\n", crash());
	for (s = 0; s < STEPS; s++) {
		qsort(took[s], (size_t)rounds, sizeof(double), by_size);
		printf("%s %.0f %.2f\n", names[s], took[s][rounds / 2], faults[s] / rounds);
	}
	return 0;
}
