/*
 * What a child is given beyond its function: limits, a report on how it
 * crashed, an end with its parent's, and no more memory than it needs.
 */
#ifndef SHM_CHILD_FORK_H
#define SHM_CHILD_FORK_H

#include "control.h"

enum {
	SHM_KILL_WITH_PARENT = 1, /* the child is killed when this process ends */
	SHM_REPORT_CRASH = 2,     /* a fatal signal is recorded in the report */
	SHM_CLOSE_FDS = 4,        /* descriptors above 2 are closed, but those to keep */
	SHM_PROCESS_GROUP = 8,    /* the child leads a process group of its own */
	SHM_AWAIT_SET_UP = 16,    /* the child reports how its set-up went */
	SHM_SERVE = 32,           /* the child is a pool's: it serves calls, and has no function of its own */
	SHM_OOM_FIRST = 64,       /* the OOM killer takes the child before its parent */
};

enum { SHM_MAX_LIMITS = 16 }; /* as many as there are resources */

struct shm_limit {
	int64_t resource;
	uint64_t cur, max;
};

struct shm_range {
	uintptr_t addr;
	size_t length;
};

/* What is asked for of a fork. It holds no pointer to memory that the child may lack. */
struct shm_fork_args {
	shm_child child;
	void *addr;
	size_t length;
	int flags;
	int nice;
	int limits_count;
	int wake_fd; /* of SHM_SERVE: the child's end of a socket */
	struct shm_limit limits[SHM_MAX_LIMITS];

	/* written by the fork */
	struct shm_control *control; /* NULL if no flag needs it */
	const char *call;            /* what failed */
	pid_t pid;
	int64_t fork_time;
};

/*
 * Forks a child as args has it. Descriptors in keep, ascending, stay open. The memory in
 * lean is left out of the child. With SHM_AWAIT_SET_UP the caller goes on to
 * wait for the child's set-up. One call at a time.
 */
int shm_fork_with(struct shm_fork_args *args, const int *keep, size_t keep_count, const struct shm_range *lean, size_t lean_count);

#endif
