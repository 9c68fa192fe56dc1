/*
 * A ring. The bytes that its records take are at positions from 0 on, which only
 * grow: what is at a position lies at the position modulo the capacity. The producer's
 * position is where it will write next, and the consumer's where it will read next.
 * What lies between the two is published, and not released yet.
 *
 * A record is a struct shm_ring_record and its bytes, up to a multiple of 8. A record
 * that does not fit before the end of the ring begins at offset 0, and the rest of the
 * ring before it is one record of the length SHM_RING_SKIP. So a record is contiguous,
 * and takes at most half of the capacity: that much is there behind or before any offset.
 *
 * Each end has its own position in memory of its own, and the one in the ring is for
 * the other end. An end checks the position and the lengths that it reads of the other.
 *
 * A process names the ring in its slot before it becomes an end (SHM_HELD_PRODUCES),
 * as long as it is one. If it dies, its mender flags the end and wakes the other. What
 * it had not published is lost. So a process may be killed between any two instructions.
 *
 * An end that has to wait sets wake_at and enters its gate. The other end wakes it once
 * its position is there: a load for each record, and a system call for many records. A
 * producer waits a moment for half of the ring to be free. Then it waits for what it
 * needs. ring_linux.go is the same for Go.
 */
#ifndef SHM_RING_H
#define SHM_RING_H

#include "gate.h"

/* The flags of shm_ring_words.end, above the owner. */
enum {
	SHM_RING_OWNER = 0xffff,
	SHM_RING_CLOSED = 1 << 16, /* by the end itself, or its process exited with status 0 */
	SHM_RING_DIED = 1 << 17,
};

struct shm_ring_record {
	uint32_t length; /* of the bytes that follow, or SHM_RING_SKIP */
	uint32_t unused;
};

enum {
	SHM_RING_ALIGN = 64,           /* the size of a ring is a multiple of this */
	SHM_RING_LONGEST = 0x7ffffff8, /* no record is longer */
	SHM_RING_NAP = 100000,         /* ns that a producer waits for half of the ring */
};
#define SHM_RING_SKIP UINT32_MAX

#endif
