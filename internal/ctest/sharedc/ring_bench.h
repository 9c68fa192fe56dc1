/* The C side of benchmarks of rings. Each function returns 0 or an errno value. */
#ifndef SHAREDC_RING_BENCH_H
#define SHAREDC_RING_BENCH_H

#include "../../../csrc/shm_shared.h"

/* Two rings of the same size, and what is sent. RingBench in ring_bench.go is the same. */
struct ring_bench {
	uint32_t rounds, length; /* of the records */
	uint64_t size;           /* of each ring */
	uint64_t unused[6];
	unsigned char rings[] __attribute__((aligned(64)));
};

/* Commits rounds records to the first ring, and writes the first byte of each page of them. */
int bench_stream(struct ring_bench *b);

/* Reads the records of bench_stream, and the first byte of each page of them. */
int bench_drain(struct ring_bench *b);

/* Sends a record by the first ring and awaits one by the second, rounds times. */
int bench_ask(struct ring_bench *b);

/* Awaits a record by the first ring and sends one by the second, rounds times. */
int child_bench_answer(void *addr, size_t length);

int child_bench_stream(void *addr, size_t length);
int child_bench_drain(void *addr, size_t length);

/*
 * Writes n records of length bytes to a pipe(2) that a child reads. The first byte of
 * each page is written and read, as in bench_stream.
 */
int loop_pipe(long n, size_t length);

#endif
