/* Children at the ends of rings. */
#ifndef SHAREDC_RING_H
#define SHAREDC_RING_H

#include "../../../csrc/shm_shared.h"

enum ring_act {
	RING_END,
	RING_OPEN_PRODUCER,
	RING_OPEN_CONSUMER,
	RING_RESERVE, /* plus the record's length, times RING_LENGTH. The record is filled with its length */
	RING_COMMIT,
	RING_PEEK, /* the result is the record's length, or a negative errno value */
	RING_RELEASE,
	RING_CLOSE_PRODUCER,
	RING_CLOSE_CONSUMER,
	RING_PAUSE, /* for ever */
	RING_TRACE, /* be traced by the thread that forked */
	RING_STOP,  /* stop, for the tracer */

	RING_TIMED = 256, /* added to an act that waits: for 2 ms */
	RING_LENGTH = 512,
};

enum {
	RING_ACTS = 40,
	RING_BYTES = 4096, /* of each ring */
};

/* What children do, and rings. RingArea in ring.go is the same. */
struct ring_area {
	uint32_t done;    /* how many acts are done */
	uint32_t rounds;  /* records */
	uint32_t longest; /* record */
	uint32_t ready;   /* of benchmarks */
	uint64_t size;    /* of the first ring, for benchmarks */
	int32_t act[RING_ACTS];
	int32_t result[RING_ACTS];
	unsigned char ring[2][RING_BYTES] __attribute__((aligned(64)));
};

/* Acts at the first ring, and stores the results. */
int child_ring_acts(void *addr, size_t length);

/* Commits rounds records to the first ring and closes it. Record i has ring_length(i) bytes. */
int child_ring_produce(void *addr, size_t length);

/* Reads what child_ring_produce commits, up to its close, and checks it. */
int child_ring_consume(void *addr, size_t length);

/* Sends each record of the first ring back by the second, until the first is closed. */
int child_ring_echo(void *addr, size_t length);

/* Writes random words to the rings, until it is killed. */
int child_ring_scribble(void *addr, size_t length);

/*
 * Reads records from a ring of 4096 bytes at the beginning of the mapping, and commits
 * each to the ring behind it, in upper case. ring_example_test.go shows this function.
 */
int child_upper(void *addr, size_t length);

#endif
