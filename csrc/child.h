/*
 * What a child is given beyond its function: limits, a report on how it
 * crashed, an end with its parent's, and no more memory than it needs.
 */
#ifndef SHM_ORDER_H
#define SHM_ORDER_H

#include "shm.h"

enum {
	SHM_KILL_WITH_PARENT = 1, /* the child is killed when this process ends */
	SHM_REPORT_CRASH = 2,     /* a fatal signal is recorded in the report */
	SHM_CLOSE_FDS = 4,        /* descriptors above 2 are closed, but those to keep */
	SHM_PROCESS_GROUP = 8,    /* the child leads a process group of its own */
};

enum { SHM_MAX_LIMITS = 16 }; /* as many as there are resources */

/* Memory that the child shares with its parent. All zero before the fork. */
struct shm_report {
	uint32_t setup; /* futex: 0 under way, 1 done, 2 failed */
	int32_t err;    /* of what failed */
	char call[20];  /* its name */

	uint32_t crashed; /* 1 once the four that follow are written */
	int32_t sig;
	int32_t code; /* si_code */
	uint64_t addr, pc;

	uint32_t called_go; /* 1 if the child ended as it called Go */

	uint32_t located; /* 1 once the rest is written */
	uint64_t base;    /* where the file that holds pc begins in memory */
	char module[232]; /* that file, empty if there is none */
};

struct shm_limit {
	int64_t resource;
	uint64_t cur, max;
};

struct shm_range {
	uintptr_t addr;
	size_t length;
};

/* What is asked for of a fork. It holds no pointer to memory that the child may lack. */
struct shm_order {
	shm_child child;
	void *addr;
	size_t length;
	struct shm_report *report; /* NULL if neither SHM_REPORT_CRASH nor anything that can fail is asked for */
	int flags;
	int nice;
	int limits_count;
	int unused;
	struct shm_limit limits[SHM_MAX_LIMITS];

	/* written by the fork */
	const char *call; /* what failed */
	pid_t pid;
	int64_t held;
};

/*
 * Forks as ordered. Descriptors in keep, ascending, stay open. The memory in
 * lean is left out of the child. What fails in the child before its function
 * runs is what this returns; then there is no child left. One call at a time.
 */
int shm_fork_order(struct shm_order *order, const int *keep, size_t keep_count, const struct shm_range *lean, size_t lean_count);

/* The file that an instruction of this process is from, and where that begins in memory, if known. */
void shm_locate(uintptr_t pc, const char **module, uintptr_t *base);

#endif
