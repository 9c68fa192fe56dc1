#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "hostile.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static char *control;

/* Finds what it shares with others, beside the order's own mapping. The last of it is its control page. */
static uint32_t look_around(const struct hostile *order)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], perm[8];
	unsigned long start, end;
	uint32_t found = 0;

	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
		if (sscanf(line, "%lx-%lx %7s", &start, &end, perm) != 3 || strcmp(perm, "rw-s") != 0)
			continue;
		if ((unsigned long)order >= start && (unsigned long)order < end)
			continue;
		control = (char *)start;
		found++;
	}
	if (maps != NULL)
		fclose(maps);
	return found;
}

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static void put_random(uint32_t *state, const struct hostile *order)
{
	volatile unsigned char *to = (volatile unsigned char *)control + order->offset;
	uint32_t i;

	for (i = 0; i < order->length; i++)
		to[i] = (unsigned char)next_random(state);
}

static void fill(const struct hostile *order)
{
	uint32_t i, value = order->value;

	for (i = 0; i + sizeof(value) <= order->length; i += sizeof(value))
		memcpy(control + order->offset + i, &value, sizeof(value));
}

static void misuse_descriptors(enum hostile_act act)
{
	char bytes[256];
	int fd;

	for (fd = 3; fd < 256; fd++) {
		switch (act) {
		case HOSTILE_FLOOD:
			while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
				;
			break;
		case HOSTILE_SHUT:
			shutdown(fd, SHUT_RDWR);
			close(fd);
			break;
		default:
			fcntl(fd, F_SETFL, 0);
			while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
				;
		}
	}
}

static void overrun(struct hostile *order)
{
	volatile char *to = control;

	for (;; to += order->length != 0 ? 1 : -1) {
		__atomic_store_n(&order->value, (uint32_t)(to - control), __ATOMIC_RELAXED);
		*to = 1;
	}
}

/* It outlives its parent: it ends when the order says so. Its parent waits for its first bytes. */
static void leave_grandchild(struct hostile *order, uint32_t *state)
{
	switch (fork()) {
	case -1:
		return;
	case 0:
		break;
	default:
		while (__atomic_load_n(&order->begun, __ATOMIC_ACQUIRE) == 0)
			usleep(50);
		return;
	}
	setsid();
	while (__atomic_load_n(&order->stop, __ATOMIC_ACQUIRE) == 0) {
		put_random(state, order);
		__atomic_store_n(&order->begun, 1, __ATOMIC_RELEASE);
		usleep(50);
	}
	_exit(0);
}

/* What the thread that is left writes. The next order of this kind changes it. */
static struct {
	pthread_t thread;
	int is_there;
	struct hostile order;
} later;

static void *write_on(void *unused)
{
	(void)unused;
	for (;;) {
		volatile unsigned char *to = (volatile unsigned char *)control + later.order.offset;
		uint32_t i;

		for (i = 0; i < later.order.length; i++)
			to[i] = (unsigned char)later.order.value;
	}
	return NULL;
}

static void leave_thread(const struct hostile *order)
{
	later.order = *order;
	if (!later.is_there)
		later.is_there = pthread_create(&later.thread, NULL, write_on, NULL) == 0;
}

static void act_on(struct hostile *order, uint32_t *state)
{
	switch (order->act) {
	case HOSTILE_FILL:
		fill(order);
		break;
	case HOSTILE_RANDOM:
		put_random(state, order);
		break;
	case HOSTILE_COPY:
		memcpy(control + order->offset, order + 1, order->length);
		break;
	case HOSTILE_OVERRUN:
		overrun(order);
		break;
	case HOSTILE_LATER:
		leave_thread(order);
		break;
	case HOSTILE_GRANDCHILD:
		leave_grandchild(order, state);
		break;
	case HOSTILE_NOTHING:
		break;
	default:
		misuse_descriptors(order->act);
	}
}

int child_hostile(void *addr, size_t length)
{
	struct hostile *order = addr;
	uint32_t state = order->value;

	(void)length;
	order->pages = look_around(order);
	if (control == NULL)
		return 99;
	do {
		act_on(order, &state);
		__atomic_store_n(&order->begun, 1, __ATOMIC_RELEASE);
	} while (order->end == HOSTILE_REPEAT && __atomic_load_n(&order->stop, __ATOMIC_ACQUIRE) == 0);
	switch (order->end) {
	case HOSTILE_PAUSE:
		for (;;)
			pause();
	case HOSTILE_ABORT:
		abort();
	case HOSTILE_FAULT:
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
		break;
	case HOSTILE_EXIT:
		_exit(0);
	}
	return 7;
}

/* Whether the kernel can read the byte: a pipe takes it. */
static int readable(const char *at)
{
	int ends[2], ok;

	if (pipe(ends) == -1)
		return 0;
	ok = write(ends[1], at, 1) == 1;
	close(ends[0]);
	close(ends[1]);
	return ok;
}

/*
 * mremap(2) with a length of 0 maps an object again, beyond what was mapped of it. A
 * page that begins with 1 is the report of a set-up that is done.
 */
static int is_report_at(const char *at, size_t page)
{
	const size_t pages = 4;
	char *again = mremap((void *)at, 0, pages * page, MREMAP_MAYMOVE);
	size_t i;

	if (again == MAP_FAILED)
		return 0;
	for (i = 0; i < pages; i++) {
		volatile uint32_t *word = (volatile uint32_t *)(void *)(again + i * page);

		/* A page beyond the end of an object is SIGBUS. */
		if (mprotect(again + i * page, page, PROT_READ | PROT_WRITE) == 0 && readable(again + i * page) && *word == 1)
			return 1;
	}
	return 0;
}

int child_reach_report(void *addr, size_t length)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int i;

	(void)length;
	look_around(addr);
	if (control == NULL)
		return 99;
	for (i = -2; i <= 1; i++)
		if (is_report_at(control + i * (long)page, page))
			return 1;
	return 0;
}
