/*
 * The number by which a child holds the locks of package shared. Whoever forks
 * the child chooses the number, and the child notes it here.
 */
#ifndef SHM_OWNER_H
#define SHM_OWNER_H

#include <stdint.h>

/* In the child: notes the owner. 0 means that the child has none yet. */
void shm_set_owner(uint32_t owner);

/* Returns the owner that this process was given, or 0. A copy of the process has none. */
uint32_t shm_given_owner(void);

#endif
