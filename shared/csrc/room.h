/*
 * A room is a lock within a structure, and a gate. A process is in the room while it
 * changes the structure, and waits at the gate, outside. It names the structure in
 * its slot before it enters, until it has left.
 *
 * What a process has of the structure is written in its slot (enum shm_held), within
 * the room. The counts in the structure sum that up. If a process dies that has
 * something, or that is in the room, its mender clears its places and flags the room
 * (SHM_MUTEX_DIED). Who enters next counts anew. So a process may be killed between
 * any two instructions. room_linux.go is the same for Go.
 */
#ifndef SHM_ROOM_H
#define SHM_ROOM_H

#include "mutex.h"

/* The beginning of the structures that have a room. The first two members are those of shm_mutex. */
struct shm_room {
	struct shm_head head;
	uint32_t word;
	struct shm_gate gate;
	uint32_t reserved;
};

/* Enters the room. Returns whether the caller must count anew. */
int shm_room_enter(struct shm_room *r, uint32_t owner);
void shm_room_leave(struct shm_room *r);

/* The flags of shm_rwmutex.state. */
enum {
	SHM_RW_DIED = 1, /* a writer died, and nobody has called shm_rwconsistent */
	SHM_RW_LOST = 2, /* the lock is not recoverable */
};

#endif
