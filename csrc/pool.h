/*
 * Calls to a child that is already there: the parent asks for them in the
 * control page, and the child answers there.
 */
#ifndef SHM_POOL_H
#define SHM_POOL_H

#include "control.h"

enum { SHM_POOL_LOST = 125 }; /* the exit status of a child that could not say that it is done */

/*
 * The child's side. It serves calls on the mapping at base until it is killed,
 * and sends a byte to wake_fd when the parent waits by the socket.
 */
void shm_pool_child(struct shm_control *control, char *base, int wake_fd) __attribute__((noreturn));

/*
 * The parent's side. Asks the child for call number seq, child(base + offset,
 * length), and waits about patience nanoseconds, or a few times that if the
 * child writes garbage. Returns whether the child answered.
 */
int shm_pool_call(struct shm_control *control, uint32_t seq, shm_child child, size_t offset, size_t length, int64_t patience);

#endif
