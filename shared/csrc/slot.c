#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "slot.h"
#include "../../csrc/identity.h"
#include "../../csrc/owner.h"

#include <errno.h>
#include <sys/mman.h>

struct shm_family shm_family;

/* The owner that this process is, below the token of the process that found it out. */
static uint64_t self;

enum {
	OWNER_BITS = 16,
	OWNER_MASK = (1 << OWNER_BITS) - 1,
};

int shm_family_start(uint32_t number)
{
	struct shm_table *table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (table == MAP_FAILED)
		return errno;
	table->family = number;
	shm_family.table = table;
	return 0;
}

static int take_slot(struct shm_slot *slot, enum shm_slot_state state)
{
	uint32_t unused = SHM_SLOT_FREE;

	return __atomic_load_n(&slot->state, __ATOMIC_RELAXED) == SHM_SLOT_FREE &&
		__atomic_compare_exchange_n(&slot->state, &unused, state, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

uint32_t shm_owner_take(struct shm_table *table, enum shm_slot_state state)
{
	uint32_t i;

	for (i = 0; i < SHM_SLOTS; i++)
		if (take_slot(&table->slot[i], state))
			return i + 1;
	return 0;
}

void shm_owner_free(struct shm_table *table, uint32_t owner)
{
	struct shm_slot *slot = &table->slot[owner - 1];
	int i;

	for (i = 0; i < SHM_HELD; i++)
		__atomic_store_n(&slot->held[i], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->of, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->more, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->state, SHM_SLOT_FREE, __ATOMIC_SEQ_CST);
}

static uint64_t token_now(void)
{
	static const uint64_t *word;
	uint64_t found;

	if (word == NULL)
		word = shm_process_token_word();
	found = __atomic_load_n(word, __ATOMIC_RELAXED);
	return found != 0 ? found : shm_process_token();
}

/* Finds out which owner this process is. Its threads agree on one. */
static uint32_t become_owner(uint64_t mine, uint64_t seen)
{
	uint32_t given = shm_given_owner();
	uint32_t owner = given != 0 ? given : shm_owner_take(shm_family.table, SHM_SLOT_TAKEN);

	if (owner == 0)
		return 0;
	if (__atomic_compare_exchange_n(&self, &seen, mine << OWNER_BITS | owner, 0, __ATOMIC_SEQ_CST,
					__ATOMIC_SEQ_CST))
		return owner;
	if (given == 0)
		shm_owner_free(shm_family.table, owner); /* another thread was first */
	return (uint32_t)(seen & OWNER_MASK);
}

uint32_t shm_owner_self(void)
{
	uint64_t mine = token_now(), seen = __atomic_load_n(&self, __ATOMIC_ACQUIRE);

	if (seen >> OWNER_BITS == (mine & UINT64_MAX >> OWNER_BITS) && seen != 0)
		return (uint32_t)(seen & OWNER_MASK);
	return become_owner(mine, seen);
}

static __thread char this_thread; /* its address differs from that of every other thread */

/* The threads that hold what the places of the slot name. A forked process has a copy. */
static struct {
	const void *thread;
	uint64_t token; /* of the thread's process */
} holders[SHM_HELD];

/* Finds out which owner this process is. Returns the places of its slot, or NULL if all slots are taken. */
static uint64_t *own_places(struct shm_hold *hold)
{
	hold->owner = shm_owner_self();
	return hold->owner == 0 ? NULL : shm_family.table->slot[hold->owner - 1].held;
}

static int found(uint64_t *held, int index, struct shm_hold *hold)
{
	hold->place = &held[index];
	hold->index = index;
	return 0;
}

int shm_hold_as(const struct shm_head *head, enum shm_held what, struct shm_hold *hold)
{
	const uint64_t name = head->where | what;
	uint64_t *held = own_places(hold);
	int i;

	for (i = 0; held != NULL && i < SHM_HELD; i++) {
		uint64_t none = 0;

		if (__atomic_load_n(&held[i], __ATOMIC_RELAXED) == 0 &&
		    __atomic_compare_exchange_n(&held[i], &none, name, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			return found(held, i, hold);
	}
	return ENOLCK;
}

int shm_hold(const struct shm_head *head, struct shm_hold *hold)
{
	return shm_hold_as(head, SHM_HELD_NOTHING, hold);
}

void shm_hold_got(const struct shm_hold *hold)
{
	holders[hold->index].token = token_now();
	__atomic_store_n(&holders[hold->index].thread, &this_thread, __ATOMIC_RELEASE);
}

/* Finds a structure that the thread holds, or that any thread holds if thread is NULL. */
static int find_hold(const struct shm_head *head, const void *thread, struct shm_hold *hold)
{
	uint64_t *held = own_places(hold);
	int i;

	for (i = 0; held != NULL && i < SHM_HELD; i++) {
		const void *holder = __atomic_load_n(&holders[i].thread, __ATOMIC_ACQUIRE);

		if (holder != NULL && (thread == NULL || holder == thread) && holders[i].token == token_now() &&
		    (__atomic_load_n(&held[i], __ATOMIC_RELAXED) & ~(uint64_t)SHM_HELD_MASK) == head->where)
			return found(held, i, hold);
	}
	return EPERM;
}

int shm_hold_find(const struct shm_head *head, struct shm_hold *hold)
{
	return find_hold(head, NULL, hold);
}

int shm_hold_is_mine(const struct shm_head *head)
{
	struct shm_hold hold;

	return find_hold(head, &this_thread, &hold) == 0;
}

int shm_hold_give(const struct shm_hold *hold)
{
	return __atomic_exchange_n(&holders[hold->index].thread, NULL, __ATOMIC_RELAXED) == NULL ? EPERM : 0;
}

void shm_unhold(const struct shm_hold *hold)
{
	__atomic_store_n(hold->place, 0, __ATOMIC_RELEASE);
}

void shm_hold_set(const struct shm_hold *hold, enum shm_held what)
{
	uint64_t where = __atomic_load_n(hold->place, __ATOMIC_RELAXED) & ~(uint64_t)SHM_HELD_MASK;

	__atomic_store_n(hold->place, where | what, __ATOMIC_SEQ_CST);
}

int shm_hold_find_set(const struct shm_head *head, enum shm_held what, struct shm_hold *hold)
{
	uint64_t *held = own_places(hold);
	int i;

	for (i = 0; held != NULL && i < SHM_HELD; i++)
		if (__atomic_load_n(&held[i], __ATOMIC_RELAXED) == (head->where | what))
			return found(held, i, hold);
	return EPERM;
}

uint32_t shm_hold_count(const struct shm_head *head, enum shm_held what)
{
	uint32_t n = 0, s;
	int i;

	for (s = 0; s < SHM_SLOTS; s++) {
		struct shm_slot *slot = &shm_family.table->slot[s];

		for (i = 0; __atomic_load_n(&slot->state, __ATOMIC_RELAXED) != SHM_SLOT_FREE && i < SHM_HELD; i++)
			n += __atomic_load_n(&slot->held[i], __ATOMIC_RELAXED) == (head->where | what);
	}
	return n;
}
