/*
 * A child's sandbox: the child gives up its capabilities, then what it may do with
 * files, and at last all system calls but those that a filter lets through.
 */
#ifndef SHM_SANDBOX_H
#define SHM_SANDBOX_H

#include "control.h"

enum {
	SHM_MAX_FILTER = 1024,
	SHM_MAX_SELF = 8,
	SHM_MAX_READ_ONLY = 64,
};

/* What of a sandbox holds for a child. */
enum shm_sandboxed {
	SHM_SANDBOXED_FILTER = 1,
	SHM_SANDBOXED_LANDLOCK = 2,
};

/* struct sock_filter of <linux/filter.h>, which musl-gcc does not find. */
struct shm_filter {
	uint16_t code;
	uint8_t yes, no;
	uint32_t k;
};

struct shm_span {
	uintptr_t addr;
	size_t length;
	int64_t offset; /* in the object behind read_only_fd */
};

/* The parent prepares it. It has no pointers: a child gets a copy. */
struct shm_sandbox {
	int32_t optional;     /* what the kernel lacks is left out */
	int32_t report;       /* the filter answers what it denies by SIGSYS, which is reported */
	int32_t landlock_fd;  /* a ruleset of landlock(7), or -1 */
	int32_t read_only_fd; /* the mapping's object, opened for reading alone, or -1 */
	uint32_t read_only_count, filter_length, self_count;
	uint32_t unused;
	uint32_t self[SHM_MAX_SELF]; /* the instructions whose k is to be the child's process id */
	struct shm_span read_only[SHM_MAX_READ_ONLY];
	struct shm_filter filter[SHM_MAX_FILTER];
};

/*
 * In the child: enters the sandbox, and closes its descriptors. *holds becomes
 * what holds: enum shm_sandboxed. Changes the filter of *s. Returns SHM_CALL_NONE,
 * or the call that failed, with errno set. Async-signal-safe.
 */
enum shm_set_up_call shm_enter_sandbox(struct shm_sandbox *s, int32_t *holds);

#endif
