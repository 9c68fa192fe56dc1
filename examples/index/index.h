/* A hash table of strings in shared memory. main.go has the same structs. */
#ifndef INDEX_H
#define INDEX_H

#include "../../csrc/shm_child.h" /* in a module of its own: "shm_child.h", see cmd/childheader */
#include "../../csrc/shm_shared.h"

enum {
	INDEX_LOCKS = 64,
	INDEX_BUCKETS = 4096,
	INDEX_WORKERS = 5, /* four of C and one of Go */
	INDEX_ARENA = 65536,
};

/* A string in the table. An entry is linked by one store, so a list is whole at every instant. */
struct index_entry {
	uint64_t next; /* the next entry of the bucket */
	uint64_t key;  /* the string's bytes */
	uint32_t length;
	uint32_t ready; /* whether the rest is written, except for next */
};

/* What a worker has: it, or the next one in its place, goes on from here. */
struct index_worker {
	uint64_t fresh; /* an entry that may be in no list yet */
	uint64_t acked; /* how many strings are in the table for certain */
	uint64_t goal;
	uint64_t unused[5];
};

struct index {
	shm_mutex lock[INDEX_LOCKS];    /* of the buckets with this number, modulo the locks */
	uint64_t bucket[INDEX_BUCKETS]; /* the first entry of each list */
	struct index_worker worker[INDEX_WORKERS];
};

/* A child that fills the table, as the worker shm_arg(). */
int index_fill(void *addr, size_t length);

#endif
