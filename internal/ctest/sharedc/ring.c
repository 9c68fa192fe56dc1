#include "ring.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

static int reserve(shm_ring *r, size_t n, const struct timespec *limit)
{
	void *p;
	int err = shm_ring_reserve(r, n, limit, &p);

	if (err == 0)
		memset(p, (int)n, n);
	return err;
}

static int peek(shm_ring *r, const struct timespec *limit)
{
	size_t n;
	void *p;
	int err = shm_ring_peek(r, limit, &p, &n);

	if (err == 0 && n > 0 && ((unsigned char *)p)[n - 1] != (unsigned char)n)
		return -EIO;
	return err != 0 ? -err : (int)n;
}

static int act(struct ring_area *a, shm_ring *ends, int32_t what)
{
	const struct timespec moment = { 0, 2 * 1000 * 1000 };
	const struct timespec *limit = what & RING_TIMED ? &moment : NULL;
	size_t n = (size_t)(what / RING_LENGTH);

	switch (what % RING_TIMED) {
	case RING_OPEN_PRODUCER:
		return shm_ring_open(&ends[SHM_RING_PRODUCER], a->ring[0], RING_BYTES, SHM_RING_PRODUCER);
	case RING_OPEN_CONSUMER:
		return shm_ring_open(&ends[SHM_RING_CONSUMER], a->ring[0], RING_BYTES, SHM_RING_CONSUMER);
	case RING_RESERVE:
		return reserve(&ends[SHM_RING_PRODUCER], n, limit);
	case RING_COMMIT:
		return shm_ring_commit(&ends[SHM_RING_PRODUCER]);
	case RING_PEEK:
		return peek(&ends[SHM_RING_CONSUMER], limit);
	case RING_RELEASE:
		return shm_ring_release(&ends[SHM_RING_CONSUMER]);
	case RING_CLOSE_PRODUCER:
		shm_ring_close(&ends[SHM_RING_PRODUCER]);
		return 0;
	case RING_CLOSE_CONSUMER:
		shm_ring_close(&ends[SHM_RING_CONSUMER]);
		return 0;
	case RING_TRACE:
		return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 ? errno : 0;
	case RING_STOP:
		return raise(SIGSTOP);
	default:
		for (;;)
			pause();
	}
}

int child_ring_acts(void *addr, size_t length)
{
	struct ring_area *a = addr;
	shm_ring ends[2];
	int i;

	(void)length;
	for (i = 0; i < RING_ACTS && a->act[i] != RING_END; i++) {
		a->result[i] = act(a, ends, a->act[i]);
		__atomic_store_n(&a->done, (uint32_t)i + 1, __ATOMIC_SEQ_CST);
	}
	return 0;
}

/* RingLength in ring.go is the same. */
static size_t ring_length(const struct ring_area *a, uint32_t i)
{
	return (i * 2654435761u >> 7) % (a->longest + 1);
}

static void fill(unsigned char *p, size_t n, uint32_t i)
{
	size_t at;

	for (at = 0; at < n; at++)
		p[at] = (unsigned char)(i + at);
}

int child_ring_produce(void *addr, size_t length)
{
	struct ring_area *a = addr;
	shm_ring r;
	int err = shm_ring_open(&r, a->ring[0], RING_BYTES, SHM_RING_PRODUCER);
	uint32_t i;

	(void)length;
	for (i = 0; i < a->rounds && err == 0; i++) {
		size_t n = ring_length(a, i);
		void *p;

		err = shm_ring_reserve(&r, n, NULL, &p);
		if (err == 0) {
			fill(p, n, i);
			err = shm_ring_commit(&r);
		}
	}
	shm_ring_close(&r);
	return err;
}

static int is_filled(const unsigned char *p, size_t n, uint32_t i)
{
	size_t at;

	for (at = 0; at < n; at++)
		if (p[at] != (unsigned char)(i + at))
			return 0;
	return 1;
}

int child_ring_consume(void *addr, size_t length)
{
	struct ring_area *a = addr;
	shm_ring r;
	int err = shm_ring_open(&r, a->ring[0], RING_BYTES, SHM_RING_CONSUMER);
	uint32_t i;

	(void)length;
	for (i = 0; err == 0; i++) {
		void *p;
		size_t n;

		err = shm_ring_peek(&r, NULL, &p, &n);
		if (err == 0 && (n != ring_length(a, i) || !is_filled(p, n, i)))
			return 200;
		if (err == 0)
			err = shm_ring_release(&r);
	}
	if (err == EPIPE && i != a->rounds + 1)
		return 201;
	return err == EPIPE ? 0 : err;
}

static int echo(shm_ring *from, shm_ring *to)
{
	void *in, *out;
	size_t n;
	int err = shm_ring_peek(from, NULL, &in, &n);

	if (err == 0)
		err = shm_ring_reserve(to, n, NULL, &out);
	if (err != 0)
		return err;
	memcpy(out, in, n);
	err = shm_ring_commit(to);
	return err != 0 ? err : shm_ring_release(from);
}

int child_ring_echo(void *addr, size_t length)
{
	struct ring_area *a = addr;
	shm_ring from, to;
	int err = shm_ring_open(&from, a->ring[0], RING_BYTES, SHM_RING_CONSUMER);

	(void)length;
	if (err == 0)
		err = shm_ring_open(&to, a->ring[1], RING_BYTES, SHM_RING_PRODUCER);
	while (err == 0)
		err = echo(&from, &to);
	if (err != EPIPE)
		return err;
	shm_ring_close(&to);
	return 0;
}

int child_ring_scribble(void *addr, size_t length)
{
	struct ring_area *a = addr;
	uint32_t *words = (uint32_t *)(void *)a->ring, random = 1;

	(void)length;
	for (;;) {
		uint32_t at = random % (sizeof(a->ring) / sizeof(*words));

		random = random * 1664525u + 1013904223u;
		/* One word in two is of the 320 bytes that are not records, and one value in two is small. */
		__atomic_store_n(&words[random & 1 << 20 ? at : at % 80], random & 1 << 21 ? random : random >> 20 & 0xff8,
				 __ATOMIC_RELAXED);
		__atomic_fetch_add(&a->done, 1, __ATOMIC_RELAXED);
	}
}

int child_upper(void *addr, size_t length)
{
	shm_ring in, out;
	void *from, *to;
	size_t n, i;

	(void)length;
	if (shm_ring_open(&in, addr, 4096, SHM_RING_CONSUMER) != 0 ||
	    shm_ring_open(&out, (char *)addr + 4096, 4096, SHM_RING_PRODUCER) != 0)
		return 1;
	while (shm_ring_peek(&in, NULL, &from, &n) == 0 && shm_ring_reserve(&out, n, NULL, &to) == 0) {
		for (i = 0; i < n; i++)
			((char *)to)[i] = (char)toupper(((unsigned char *)from)[i]);
		shm_ring_commit(&out);
		shm_ring_release(&in);
	}
	return 0; /* which closes both ends */
}
