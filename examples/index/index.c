#include "index.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static shm_arena *arena_of(struct index *x)
{
	return (shm_arena *)(void *)((char *)x + INDEX_ARENA);
}

static uint32_t bucket_of(const char *key, uint32_t length)
{
	uint32_t hash = 2166136261u;

	while (length-- > 0)
		hash = (hash ^ (unsigned char)*key++) * 16777619u;
	return hash % INDEX_BUCKETS;
}

/* Locks a bucket. A list is whole at every instant, so there is nothing to mend. */
static shm_mutex *lock_bucket(struct index *x, uint32_t bucket)
{
	shm_mutex *l = &x->lock[bucket % INDEX_LOCKS];
	int err = shm_lock(l, NULL);

	if (err == EOWNERDEAD)
		err = shm_consistent(l);
	return err == 0 ? l : NULL;
}

/* Returns the entry that has the key, or 0. */
static uint64_t find(struct index *x, uint32_t bucket, const char *key, uint32_t length)
{
	uint64_t off = x->bucket[bucket];
	const struct index_entry *e;

	while ((e = shm_at(arena_of(x), off)) != NULL) {
		if (e->length == length && memcmp(shm_at(arena_of(x), e->key), key, length) == 0)
			break;
		off = e->next;
	}
	return e != NULL ? off : 0;
}

/* Makes an entry for the key. If the process is killed, the next one finds what there is at w->fresh. */
static struct index_entry *make(struct index *x, struct index_worker *w, const char *key, uint32_t length)
{
	struct index_entry *e = shm_at(arena_of(x), shm_alloc(arena_of(x), sizeof(*e), &w->fresh));
	char *bytes;

	if (e == NULL)
		return NULL;
	bytes = shm_at(arena_of(x), shm_alloc(arena_of(x), length, &e->key));
	if (bytes == NULL)
		return NULL;
	memcpy(bytes, key, length);
	e->length = length;
	__atomic_store_n(&e->ready, 1, __ATOMIC_RELEASE);
	return e;
}

/* Frees the worker's fresh entry, if it is in no list. */
static int drop(struct index *x, struct index_worker *w)
{
	struct index_entry *e = shm_at(arena_of(x), w->fresh);
	int err = 0;

	if (e == NULL)
		return 0;
	if (e->ready) {
		const char *key = shm_at(arena_of(x), e->key);
		uint32_t bucket = bucket_of(key, e->length);
		shm_mutex *l = lock_bucket(x, bucket);
		int linked;

		if (l == NULL)
			return ENOTRECOVERABLE;
		linked = find(x, bucket, key, e->length) == w->fresh;
		shm_unlock(l);
		if (linked) {
			w->fresh = 0;
			return 0;
		}
	}
	if (e->key != 0)
		err = shm_free(arena_of(x), &e->key);
	e->ready = 0;
	return err != 0 ? err : shm_free(arena_of(x), &w->fresh);
}

static int insert(struct index *x, struct index_worker *w, const char *key, uint32_t length)
{
	struct index_entry *e = make(x, w, key, length);
	uint32_t bucket = bucket_of(key, length);
	shm_mutex *l;

	if (e == NULL)
		return ENOMEM;
	l = lock_bucket(x, bucket);
	if (l == NULL)
		return ENOTRECOVERABLE;
	if (find(x, bucket, key, length) == 0) {
		e->next = x->bucket[bucket];
		__atomic_store_n(&x->bucket[bucket], w->fresh, __ATOMIC_RELEASE);
		__atomic_store_n(&w->fresh, 0, __ATOMIC_RELEASE);
	}
	shm_unlock(l);
	return drop(x, w); /* the one before us may have linked the same key */
}

int index_fill(void *addr, size_t length)
{
	struct index *x = addr;
	struct index_worker *w = &x->worker[shm_arg()];
	char key[64];
	int err = drop(x, w);

	(void)length;
	while (err == 0 && w->acked < w->goal) {
		unsigned long long i = w->acked;
		int n = snprintf(key, sizeof(key), "%.*s of worker %d: %llu", (int)(i % 20), "a string of some kind",
				 (int)shm_arg(), i);

		err = insert(x, w, key, (uint32_t)n);
		if (err == 0)
			__atomic_store_n(&w->acked, i + 1, __ATOMIC_RELEASE);
	}
	return err;
}
