/* What a child does before its function runs. */
#ifndef SHM_SET_UP_H
#define SHM_SET_UP_H

#include "child.h"

/* What the child starts with: its arguments, and what goes with them. */
struct shm_start {
	const struct shm_fork_args *args;
	const int *keep;
	size_t keep_count;
	pid_t parent;
};

/*
 * Returns the call that failed, errno set, or SHM_CALL_NONE. If it is
 * SHM_CALL_SETRLIMIT, *which is the index of the limit. Async-signal-safe.
 */
enum shm_set_up_call shm_set_up(const struct shm_start *s, int32_t *which);

#endif
