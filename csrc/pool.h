/*
 * Calls to a child that exists already. The parent writes a request to the
 * control page, and the child writes a reply there.
 */
#ifndef SHM_POOL_H
#define SHM_POOL_H

#include "control.h"

enum { SHM_POOL_LOST = 125 }; /* the exit status of a child that could not wake its parent */

/* The memory that calls use. */
struct shm_pool_memory {
	char *base;     /* the mapping */
	char *in, *out; /* the two parts of the slot */
	size_t max_out;
};

/*
 * The child's side. Serves calls until the child is killed. Sends a byte to
 * wake_fd after a reply if the parent waits by the socket.
 */
void shm_pool_child(struct shm_control *control, const struct shm_pool_memory *memory, int wake_fd) __attribute__((noreturn));

/* What the parent has a child do. */
struct shm_job {
	uint32_t kind; /* an enum shm_request_kind */
	void (*function)(void);
	size_t offset, length;
};

/*
 * The parent's side. Posts request number seq, for function(base + offset, length)
 * or function(in, length, &out), and waits about timeout nanoseconds for the reply, or up to four times as long
 * if the child writes garbage. Returns whether the child has replied.
 */
int shm_pool_call(struct shm_control *control, uint32_t seq, const struct shm_job *job, int64_t timeout);

#endif
