#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ring_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static int open_end(shm_ring *r, struct ring_bench *b, int which, enum shm_ring_end end)
{
	return shm_ring_open(r, b->rings + which * b->size, b->size, end);
}

static void write_pages(void *p, size_t n, unsigned char value)
{
	size_t at;

	for (at = 0; at < n; at += PAGE)
		((volatile unsigned char *)p)[at] = value;
}

static unsigned read_pages(const void *p, size_t n)
{
	unsigned sum = 0;
	size_t at;

	for (at = 0; at < n; at += PAGE)
		sum += ((const volatile unsigned char *)p)[at];
	return sum;
}

static int put(shm_ring *r, size_t n, unsigned char value)
{
	void *p;
	int err = shm_ring_reserve(r, n, NULL, &p);

	if (err != 0)
		return err;
	write_pages(p, n, value);
	return shm_ring_commit(r);
}

static int get(shm_ring *r, unsigned *sum)
{
	size_t n;
	void *p;
	int err = shm_ring_peek(r, NULL, &p, &n);

	if (err != 0)
		return err;
	*sum += read_pages(p, n);
	return shm_ring_release(r);
}

int bench_stream(struct ring_bench *b)
{
	shm_ring r;
	int err = open_end(&r, b, 0, SHM_RING_PRODUCER);
	uint32_t i;

	for (i = 0; i < b->rounds && err == 0; i++)
		err = put(&r, b->length, 1);
	return err;
}

int bench_drain(struct ring_bench *b)
{
	shm_ring r;
	unsigned sum = 0;
	int err = open_end(&r, b, 0, SHM_RING_CONSUMER);
	uint32_t i;

	for (i = 0; i < b->rounds && err == 0; i++)
		err = get(&r, &sum);
	if (err == 0 && sum != b->rounds * ((b->length + PAGE - 1) / PAGE))
		err = EIO;
	return err;
}

int bench_ask(struct ring_bench *b)
{
	shm_ring ask, answer;
	unsigned sum = 0;
	int err = open_end(&ask, b, 0, SHM_RING_PRODUCER);
	uint32_t i;

	if (err == 0)
		err = open_end(&answer, b, 1, SHM_RING_CONSUMER);
	for (i = 0; i < b->rounds && err == 0; i++) {
		err = put(&ask, b->length, 1);
		if (err == 0)
			err = get(&answer, &sum);
	}
	return err;
}

int child_bench_answer(void *addr, size_t length)
{
	struct ring_bench *b = addr;
	shm_ring ask, answer;
	unsigned sum = 0;
	int err = open_end(&ask, b, 0, SHM_RING_CONSUMER);
	uint32_t i;

	(void)length;
	if (err == 0)
		err = open_end(&answer, b, 1, SHM_RING_PRODUCER);
	for (i = 0; i < b->rounds && err == 0; i++) {
		err = get(&ask, &sum);
		if (err == 0)
			err = put(&answer, b->length, 1);
	}
	return err;
}

int child_bench_stream(void *addr, size_t length)
{
	(void)length;
	return bench_stream(addr);
}

int child_bench_drain(void *addr, size_t length)
{
	(void)length;
	return bench_drain(addr);
}

static int read_all(int fd, unsigned char *p, size_t n)
{
	while (n > 0) {
		ssize_t got = read(fd, p, n);

		if (got <= 0)
			return got == 0 ? EPIPE : errno;
		p += got;
		n -= (size_t)got;
	}
	return 0;
}

static int write_all(int fd, const unsigned char *p, size_t n)
{
	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put < 0)
			return errno;
		p += put;
		n -= (size_t)put;
	}
	return 0;
}

static int drain_pipe(int fd, long n, unsigned char *p, size_t length)
{
	unsigned sum = 0;
	int err = 0;

	while (n-- > 0 && err == 0) {
		err = read_all(fd, p, length);
		sum += read_pages(p, length);
	}
	return err != 0 || sum == 0 ? 1 : 0;
}

int loop_pipe(long n, size_t length)
{
	unsigned char *p = calloc(1, length);
	int fd[2], status = 0, err = 0;
	pid_t pid;

	if (p == NULL || pipe2(fd, O_CLOEXEC) == -1)
		return errno;
	(void)fcntl(fd[0], F_SETPIPE_SZ, 1 << 20); /* the largest that an unprivileged process may have */
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(drain_pipe(fd[0], n, p, length));
	}
	while (n-- > 0 && err == 0) {
		write_pages(p, length, 1);
		err = write_all(fd[1], p, length);
	}
	close(fd[0]);
	close(fd[1]);
	waitpid(pid, &status, 0);
	free(p);
	return err != 0 || status == 0 ? err : EIO;
}
