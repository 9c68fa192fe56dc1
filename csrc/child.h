/*
 * Forks a child that is set up before its function runs: with limits, a crash
 * report, an end when its parent ends, and without the Go heap.
 */
#ifndef SHM_CHILD_FORK_H
#define SHM_CHILD_FORK_H

#include "control.h"
#include "sandbox.h"

enum {
	SHM_KILL_WITH_PARENT = 1, /* the child is killed when this process ends */
	SHM_REPORT_CRASH = 2,     /* a fatal signal is recorded in the report */
	SHM_CLOSE_FDS = 4,        /* descriptors above 2 are closed, except those to keep */
	SHM_PROCESS_GROUP = 8,    /* the child leads a process group of its own */
	SHM_AWAIT_SET_UP = 16,    /* the child reports the result of its set-up */
	SHM_SERVE = 32,           /* the child belongs to a pool: it serves calls and has no function */
	SHM_OOM_FIRST = 64,       /* the OOM killer kills the child before its parent */
	SHM_FORK_SERVER = 128,    /* the child is a fork server: it forks others and has no function */
	SHM_AWAIT_FUNCTION = 256, /* the child gets its function later, by a request in its control page */
};

enum { SHM_MAX_LIMITS = 16 }; /* the number of resources */

struct shm_limit {
	int64_t resource;
	uint64_t cur, max;
};

struct shm_range {
	uintptr_t addr;
	size_t length;
};

/* The arguments and the results of a fork. No argument points to memory that the child may lack. */
struct shm_fork_args {
	shm_child init; /* runs at the end of the set-up, if it is not NULL; not 0 is an error */
	shm_child child;
	void *addr;
	size_t length;
	int flags;
	int nice;
	int limits_count;
	int wake_fd;           /* for SHM_SERVE and SHM_FORK_SERVER: the child's end of a socket */
	int files[3];          /* descriptors above 2 that become 0, 1 and 2; 0 leaves the inherited one */
	int dir_fd;            /* the working directory, or 0 */
	int drop[2];           /* further descriptors to close; 0 is none */
	uint64_t memory_limit; /* what the child can map beyond what it inherits, in bytes, or 0 */
	struct shm_limit limits[SHM_MAX_LIMITS];
	uintptr_t arg;
	size_t slot, slot_out; /* for SHM_SERVE: the bytes of the slot, whole pages, and the offset of its second part */
	size_t max_out;        /* PoolConfig.MaxOut */
	uint32_t owner;        /* of locks of package shared, or 0 */

	/* results */
	struct shm_control *control; /* NULL if no flag needs it */
	const char *call;            /* the call that failed */
	pid_t pid;
	int64_t fork_time;
};

/*
 * Forks a child as args says. The descriptors in keep stay open; they are in
 * ascending order. The child lacks the memory in lean. sandbox may be NULL, and
 * needs SHM_AWAIT_SET_UP. The sandbox of a fork server is that of its children.
 * With SHM_AWAIT_SET_UP the caller must wait for the child's set-up. One call at a
 * time.
 */
int shm_fork_with(struct shm_fork_args *args, const int *keep, size_t keep_count, const struct shm_range *lean, size_t lean_count,
		  const struct shm_sandbox *sandbox);

/* Whether the flags need a control page. */
static inline int shm_needs_control(const struct shm_fork_args *args)
{
	return (args->flags & (SHM_REPORT_CRASH | SHM_AWAIT_SET_UP | SHM_SERVE | SHM_AWAIT_FUNCTION)) != 0;
}

#endif
