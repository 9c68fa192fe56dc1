/* The set-up of a child before its function runs. */
#ifndef SHM_SET_UP_H
#define SHM_SET_UP_H

#include "child.h"

/* Everything that the child needs for its set-up. */
struct shm_start {
	const struct shm_fork_args *args;
	const int *keep;
	size_t keep_count;
	pid_t parent;
};

/*
 * Returns SHM_CALL_NONE, or the call that failed, with errno set. For
 * SHM_CALL_SETRLIMIT, *which is the index of the limit. Async-signal-safe.
 */
enum shm_set_up_call shm_set_up(const struct shm_start *s, int32_t *which);

#endif
