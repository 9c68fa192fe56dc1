#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ring.h"

#include <errno.h>

static const enum shm_held held_as[] = { SHM_HELD_PRODUCES, SHM_HELD_CONSUMES };

static uint32_t other(const shm_ring *r)
{
	return 1 - r->end;
}

/*
 * Reads the other end's position once. Returns 0, or EBADMSG if it cannot be that, or
 * if this end's own cannot be one: that was in the ring when this end was opened.
 */
static int refresh(shm_ring *r)
{
	uint64_t position = __atomic_load_n(&r->words->side[other(r)].position, __ATOMIC_SEQ_CST);
	uint64_t published = r->end == SHM_RING_PRODUCER ? r->position - position : position - r->position;

	if (published > r->capacity || (published | r->position) % sizeof(struct shm_ring_record) != 0)
		return EBADMSG;
	r->available = r->end == SHM_RING_PRODUCER ? r->capacity - published : published;
	return 0;
}

/* Becomes the end, unless another process is it. */
static int claim(struct shm_ring_words *words, enum shm_ring_end end)
{
	struct shm_hold hold;
	int err = shm_hold_find_set(&words->head, held_as[end], &hold);
	uint32_t seen = 0;

	if (err != 0)
		err = shm_hold_as(&words->head, held_as[end], &hold);
	if (err != 0 ||
	    __atomic_compare_exchange_n(&words->end[end], &seen, hold.owner, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ||
	    seen == hold.owner)
		return err;
	shm_unhold(&hold);
	return seen & (SHM_RING_CLOSED | SHM_RING_DIED) ? EPIPE : EBUSY;
}

int shm_ring_open(shm_ring *r, void *ring, size_t size, enum shm_ring_end end)
{
	struct shm_ring_words *words = ring;
	int err;

	if (size < sizeof(*words) + SHM_RING_ALIGN || size % SHM_RING_ALIGN != 0 || (uintptr_t)ring % SHM_RING_ALIGN != 0 ||
	    (end != SHM_RING_PRODUCER && end != SHM_RING_CONSUMER) ||
	    __atomic_load_n(&words->head.kind, __ATOMIC_ACQUIRE) != SHM_KIND_RING || words->size != size)
		return EINVAL;
	err = claim(words, end);
	if (err != 0)
		return err;
	*r = (shm_ring){ .words = words, .capacity = size - sizeof(*words), .end = end };
	r->position = __atomic_load_n(&words->side[end].position, __ATOMIC_RELAXED);
	r->offset = r->position % r->capacity;
	return refresh(r);
}

size_t shm_ring_max(const shm_ring *r)
{
	size_t max = r->capacity / 2 - sizeof(struct shm_ring_record);

	return max < SHM_RING_LONGEST ? max : SHM_RING_LONGEST;
}

static uint32_t flags_of(const shm_ring *r, uint32_t end)
{
	return __atomic_load_n(&r->words->end[end], __ATOMIC_SEQ_CST) & ~(uint32_t)SHM_RING_OWNER;
}

/* Returns 0 if n bytes are available, EAGAIN if they may be later, or why they will not. */
static int look(shm_ring *r, uint64_t n)
{
	uint32_t ended = flags_of(r, other(r));
	int err = flags_of(r, r->end) != 0 ? EPIPE : 0;

	if (err == 0)
		err = refresh(r); /* after the look at the end: what it has published comes before its death */
	if (err != 0)
		return err;
	if (r->available >= n && (r->end == SHM_RING_CONSUMER || ended == 0))
		return 0;
	if (ended & SHM_RING_DIED)
		return EOWNERDEAD;
	return ended != 0 ? EPIPE : EAGAIN;
}

/* Says at which position of the other end this one is to be woken. */
static void set_wake_at(shm_ring *r, uint64_t n, int round)
{
	uint64_t at = r->position + n;

	if (r->end == SHM_RING_PRODUCER) {
		if (round == 0 && n < r->capacity / 2)
			n = r->capacity / 2;
		at = r->position + n - r->capacity;
	}
	__atomic_store_n(&r->words->side[r->end].wake_at, at, __ATOMIC_SEQ_CST);
}

static int doze(shm_ring *r, uint32_t seq, int round, const struct shm_deadline *end)
{
	const struct timespec nap = { 0, SHM_RING_NAP };
	struct shm_deadline soon;
	int64_t left = shm_deadline_left(end);

	if (left == 0)
		return ETIMEDOUT;
	if (r->end == SHM_RING_CONSUMER || round > 0 || (left > 0 && left < SHM_RING_NAP))
		return shm_gate_sleep(&r->words->side[r->end].gate, seq, end);
	soon = shm_deadline_of(&nap);
	(void)shm_gate_sleep(&r->words->side[r->end].gate, seq, &soon);
	return 0;
}

static int sleep_until(shm_ring *r, uint64_t n, const struct timespec *timeout)
{
	struct shm_deadline end = shm_deadline_of(timeout);
	struct shm_gate *gate = &r->words->side[r->end].gate;
	int round, err;

	for (round = 0;; round++) {
		uint32_t seq = shm_gate_enter(gate);

		set_wake_at(r, n, round);
		err = look(r, n);
		if (err == EAGAIN)
			err = doze(r, seq, round, &end);
		else
			break;
		if (err != 0)
			break;
	}
	__atomic_store_n(&gate->sleepers, 0, __ATOMIC_SEQ_CST); /* nobody else sleeps here */
	return err;
}

/* Waits until n bytes are available. */
static int await(shm_ring *r, uint64_t n, const struct timespec *timeout)
{
	int err;

	if (r->available >= n && (r->end == SHM_RING_CONSUMER || flags_of(r, SHM_RING_CONSUMER) == 0))
		return 0;
	err = look(r, n);
	return err == EAGAIN ? sleep_until(r, n, timeout) : err;
}

/* Is done with n bytes, and nobody is told yet. */
static void pass(shm_ring *r, uint64_t n)
{
	r->position += n;
	r->available -= n;
	r->offset += n;
	if (r->offset >= r->capacity)
		r->offset -= r->capacity;
}

/* Publishes or releases what was taken, and wakes the other end if it waits for that. */
static int advance(shm_ring *r, enum shm_ring_end end)
{
	struct shm_ring_side *peer = &r->words->side[other(r)];

	if (r->end != end || r->taken == 0)
		return EPERM;
	pass(r, r->taken);
	r->taken = 0;
	__atomic_store_n(&r->words->side[end].position, r->position, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&peer->gate.sleepers, __ATOMIC_RELAXED) != 0 &&
	    (int64_t)(r->position - __atomic_load_n(&peer->wake_at, __ATOMIC_RELAXED)) >= 0)
		shm_gate_wake(&peer->gate);
	return 0;
}

static struct shm_ring_record *record_at(const shm_ring *r, uint64_t offset)
{
	return (struct shm_ring_record *)(void *)((unsigned char *)(r->words + 1) + offset);
}

/* Returns the bytes that a record of n bytes takes. */
static uint64_t record_size(uint64_t n)
{
	return sizeof(struct shm_ring_record) + ((n + 7) & ~(uint64_t)7);
}

int shm_ring_reserve(shm_ring *r, size_t n, const struct timespec *timeout, void **p)
{
	uint64_t rest = r->capacity - r->offset, size = record_size(n), skip;
	struct shm_ring_record *record;
	int err;

	if (r->end != SHM_RING_PRODUCER)
		return EINVAL;
	if (n > shm_ring_max(r))
		return EMSGSIZE;
	skip = rest < size ? rest : 0;
	r->taken = 0;
	err = await(r, skip + size, timeout);
	if (err != 0)
		return err;
	if (skip != 0)
		record_at(r, r->offset)->length = SHM_RING_SKIP;
	record = record_at(r, skip != 0 ? 0 : r->offset);
	record->length = (uint32_t)n;
	r->taken = skip + size;
	*p = record + 1;
	return 0;
}

int shm_ring_commit(shm_ring *r)
{
	return advance(r, SHM_RING_PRODUCER);
}

/* Reads the length of the next record once, passing what the producer has skipped. */
static uint32_t next_length(shm_ring *r)
{
	uint32_t length = __atomic_load_n(&record_at(r, r->offset)->length, __ATOMIC_RELAXED);
	uint64_t rest = r->capacity - r->offset;

	if (length != SHM_RING_SKIP || r->offset == 0 || r->available <= rest)
		return length;
	pass(r, rest);
	return __atomic_load_n(&record_at(r, 0)->length, __ATOMIC_RELAXED);
}

int shm_ring_peek(shm_ring *r, const struct timespec *timeout, void **p, size_t *n)
{
	uint32_t length;
	uint64_t size;
	int err;

	if (r->end != SHM_RING_CONSUMER)
		return EINVAL;
	r->taken = 0;
	err = await(r, sizeof(struct shm_ring_record), timeout);
	if (err != 0)
		return err;
	length = next_length(r);
	size = record_size(length);
	if (length > shm_ring_max(r) || size > r->available || size > r->capacity - r->offset)
		return EBADMSG;
	r->taken = size;
	*p = record_at(r, r->offset) + 1;
	*n = length;
	return 0;
}

int shm_ring_release(shm_ring *r)
{
	return advance(r, SHM_RING_CONSUMER);
}

void shm_ring_close(shm_ring *r)
{
	struct shm_hold hold;
	int err = shm_hold_find_set(&r->words->head, held_as[r->end], &hold);

	if (err != 0)
		return; /* it is closed */
	r->taken = 0;
	r->available = 0;
	__atomic_fetch_or(&r->words->end[r->end], SHM_RING_CLOSED, __ATOMIC_SEQ_CST);
	shm_gate_wake(&r->words->side[other(r)].gate);
	shm_unhold(&hold);
}
