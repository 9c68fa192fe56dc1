#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "object.h"

#include <sched.h>
#include <stdint.h>

#include "../../csrc/shm_child.h"

int child_object(void *addr, size_t length)
{
	size_t *seen = addr;

	(void)length;
	*seen = shm_object_length(addr);
	return 0;
}

int child_follow(void *addr, size_t length)
{
	struct follow *f = addr;
	uint64_t off, n, page = (uint64_t)sysconf(_SC_PAGESIZE);

	(void)length;
	for (off = page; off < f->last; off += page) {
		while ((n = shm_object_length(addr)) < off + page) /* the parent adds it */
			sched_yield();
		if (n > f->last)
			return 1;
		__atomic_fetch_add((uint64_t *)((char *)addr + off), off, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&f->pages, 1, __ATOMIC_SEQ_CST);
	}
	return 0;
}

int child_last(void *addr, size_t length)
{
	volatile unsigned char *p = addr;

	return p[length - 1];
}

int child_under(void *addr, size_t length)
{
	volatile unsigned char *p = addr;

	(void)length;
	return p[-1];
}

int child_over(void *addr, size_t length)
{
	volatile unsigned char *p = addr;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return p[(length + page - 1) / page * page];
}

int child_store(void *addr, size_t length)
{
	volatile unsigned char *p = addr;

	p[length - 1] = 1;
	return 0;
}
