/*
 * Calls to a child that is already there: parent and child pass them over a
 * mailbox in memory that both share.
 */
#ifndef SHM_POOL_H
#define SHM_POOL_H

#include "shm.h"

enum { SHM_POOL_LOST = 125 }; /* the exit status of a child that could not say that it is done */

/* Calls are numbered, from 1 on. Two cache lines: the parent writes to the first, the child to the second. */
struct shm_mailbox {
	uint32_t asked; /* futex: the number of the last call asked for */
	int32_t done_fd; /* eventfd */
	void *base;      /* where the child has the mapping */
	shm_child child;
	size_t offset, length;
	char fill[64 - 2 * 4 - 4 * sizeof(size_t)];

	uint32_t begun;    /* the number of the last call begun */
	uint32_t answered; /* futex: the number of the last call answered */
	uint32_t asleep;   /* how the parent waits: 0 not, 1 for the futex, 2 for the eventfd */
	int32_t result;
} __attribute__((aligned(64)));

/* The child's function; addr is the mailbox. It serves until it is killed. */
int shm_serve(void *addr, size_t length);

/* Asks the child to run child(base + offset, length). Returns whether it answered within patience nanoseconds. */
int shm_ask(struct shm_mailbox *box, shm_child child, size_t offset, size_t length, int64_t patience);

/* Whether the last call is answered. If not, the answer will be told by the eventfd. */
int shm_answered(struct shm_mailbox *box);

#endif
