#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "close_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9 */
#endif

static int close_range_of(unsigned first, unsigned last)
{
	return first <= last ? (int)syscall(SYS_close_range, first, last, 0) : 0;
}

static int close_by_range(const int *keep, size_t count)
{
	unsigned next = 3;
	size_t i;

	for (i = 0; i < count; i++) {
		if (keep[i] < (int)next)
			continue;
		if (close_range_of(next, (unsigned)keep[i] - 1) == -1)
			return -1;
		next = (unsigned)keep[i] + 1;
	}
	return close_range_of(next, INT_MAX); /* gVisor refuses a larger one */
}

static void close_unless_kept(int fd, const int *keep, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (keep[i] == fd)
			return;
	if (fd > 2)
		close(fd);
}

/* A directory entry of getdents64(2). */
struct entry {
	uint64_t ino;
	int64_t off;
	uint16_t length;
	uint8_t type;
	char name[];
};

/* Returns the number that an entry's name stands for, or -1. */
static int number_of(const char *name)
{
	int n = 0;

	if (*name < '0' || *name > '9')
		return -1;
	for (; *name != '\0'; name++)
		n = n * 10 + (*name - '0');
	return n;
}

/*
 * A forked child may not call opendir(3). Closing descriptors does not disturb
 * the reading of the directory, whose position is a descriptor's number.
 */
static int close_by_proc(const int *keep, size_t count)
{
	_Alignas(struct entry) static char entries[4096];
	int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n, at;

	if (dir == -1)
		return -1;
	while ((n = syscall(SYS_getdents64, dir, entries, sizeof(entries))) > 0) {
		for (at = 0; at < n;) {
			const struct entry *e = (const void *)(entries + at);
			int fd = number_of(e->name);

			if (fd != dir)
				close_unless_kept(fd, keep, count);
			at += e->length;
		}
	}
	close(dir);
	return n == 0 ? 0 : -1;
}

/*
 * No descriptor is above the hard limit, unless the limit was lowered. The
 * kernel's own limit is 2^20 by default.
 */
static void close_by_number(const int *keep, size_t count)
{
	struct rlimit limit;
	int fd, end = 1 << 20;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < (rlim_t)end)
		end = (int)limit.rlim_max;
	for (fd = 3; fd < end; fd++)
		close_unless_kept(fd, keep, count);
}

int shm_close_fds(const int *keep, size_t count)
{
	if (close_by_range(keep, count) == 0)
		return 0;
	if (errno != ENOSYS && errno != EPERM) /* these mean an old kernel or a seccomp(2) filter */
		return -1;
	if (close_by_proc(keep, count) == -1)
		close_by_number(keep, count);
	return 0;
}
