#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "set_up.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int close_range_of(unsigned first, unsigned last)
{
	return first <= last ? (int)syscall(SYS_close_range, first, last, 0) : 0;
}

static int close_fds(const int *keep, size_t count)
{
	unsigned next = 3;
	size_t i;

	for (i = 0; i < count; i++) {
		if (keep[i] < (int)next)
			continue;
		if (keep[i] > (int)next && close_range_of(next, (unsigned)keep[i] - 1) == -1)
			return -1;
		next = (unsigned)keep[i] + 1;
	}
	return close_range_of(next, ~0U);
}

static int set_limits(const struct shm_limit *limits, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		struct rlimit limit = { (rlim_t)limits[i].cur, (rlim_t)limits[i].max };

		if (setrlimit(limits[i].resource, &limit) == -1)
			return -1;
	}
	return 0;
}

/*
 * The parent may have died before PR_SET_PDEATHSIG took effect. The forker's
 * children are always in its own pid namespace, so getppid tells.
 */
static int end_with(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1)
		return -1;
	if (getppid() != parent)
		kill(getpid(), SIGKILL);
	return 0;
}

enum shm_set_up_call shm_set_up(const struct shm_start *s)
{
	const struct shm_order *o = s->order;

	if (o->flags & SHM_PROCESS_GROUP && setpgid(0, 0) == -1)
		return SHM_CALL_SETPGID;
	if (o->flags & SHM_KILL_WITH_PARENT && end_with(s->parent) == -1)
		return SHM_CALL_PRCTL;
	if (o->flags & SHM_CLOSE_FDS && close_fds(s->keep, s->keep_count) == -1)
		return SHM_CALL_CLOSE_RANGE;
	if (o->nice != 0) {
		errno = 0;
		if (nice(o->nice) == -1 && errno != 0)
			return SHM_CALL_NICE;
	}
	if (set_limits(o->limits, o->limits_count) == -1)
		return SHM_CALL_SETRLIMIT;
	return SHM_CALL_NONE;
}
