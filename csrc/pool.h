/*
 * Calls to a child that exists already. The parent writes a request to the
 * control page, and the child writes a reply there.
 */
#ifndef SHM_POOL_H
#define SHM_POOL_H

#include "control.h"

enum { SHM_POOL_LOST = 125 }; /* the exit status of a child that could not wake its parent */

/*
 * The child's side. Serves calls on the mapping at base until the child is
 * killed. Sends a byte to wake_fd after a reply if the parent waits by the socket.
 */
void shm_pool_child(struct shm_control *control, char *base, int wake_fd) __attribute__((noreturn));

/*
 * The parent's side. Posts request number seq, for child(base + offset, length),
 * and waits about timeout nanoseconds for the reply, or up to four times as long
 * if the child writes garbage. Returns whether the child has replied.
 */
int shm_pool_call(struct shm_control *control, uint32_t seq, shm_child child, size_t offset, size_t length, int64_t timeout);

#endif
