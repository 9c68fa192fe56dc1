/*
 * Owner slots. A process that holds or waits for something has a slot in a table
 * that all processes of the program share. An owner is the index of a slot, plus 1.
 *
 * A process writes the name of a structure (shm_head.where) into its slot before it
 * changes the structure, and clears the name after its last change. When the process
 * has ended, another process reads the slot and mends these structures. So a process
 * may be killed between any two instructions. slot_linux.go is the same for Go.
 */
#ifndef SHM_SLOT_H
#define SHM_SLOT_H

#ifndef SHM_SHARED_API
#define SHM_SHARED_API
#endif
#include "../../csrc/shm_shared.h"

enum {
	SHM_SLOTS = 4096,
	SHM_HELD = 16,
};

enum shm_slot_state {
	SHM_SLOT_FREE,
	SHM_SLOT_GIVEN, /* to a child, by the process that reaps it */
	SHM_SLOT_TAKEN, /* by the process itself */
};

/* What a process has of a structure that it names. The structure's mender counts these. */
enum shm_held {
	SHM_HELD_NOTHING, /* or the structure has its owner in itself */
	SHM_HELD_UNIT,
	SHM_HELD_READ,
	SHM_HELD_WRITE,
	SHM_HELD_WAITS_TO_READ,
	SHM_HELD_WAITS_TO_WRITE,
	SHM_HELD_PRODUCES, /* is the producer of a ring, or will be */
	SHM_HELD_CONSUMES,
	SHM_HELD_ARRIVED = 32, /* plus the round, modulo 32 */
	SHM_HELD_MASK = 63,
};

/* What the mending of an arena needs besides its name. arena.h has the rules. */
struct shm_note {
	uint64_t block; /* the offset of a block in the arena, and SHM_NOTE_KEEPS */
	int64_t to;     /* the offset from the arena of the Ref that names the block, or will */
};

struct shm_slot {
	uint32_t state; /* an enum shm_slot_state */
	uint32_t of;    /* the owner whose process has this slot as well, or 0 */
	uint32_t more;  /* whether the process has other slots of this owner */
	uint32_t reserved;
	uint64_t unused[6];
	uint64_t held[SHM_HELD];        /* names of structures that the process may have changed, and an enum
					   shm_held in the low 6 bits; 0 is none */
	struct shm_note note[SHM_HELD]; /* the i-th belongs to the i-th name */
};

struct shm_table {
	uint32_t family;
	uint32_t mappings; /* how many mappings have a number */
	uint32_t wants;    /* changes when an arena is to grow: shm_arena.wanted */
	uint32_t bell;     /* futex: changes when a word has changed for which a goroutine waits */
	uint64_t unused[6];
	struct shm_slot slot[SHM_SLOTS];
};

/* The program's own table, which children inherit. Set before any child is forked. */
struct shm_family {
	struct shm_table *table;
};
extern struct shm_family shm_family;

/* Makes the table. Returns 0 or an errno value. */
int shm_family_start(uint32_t number);

/* Returns the owner that a free slot of the table stands for, or 0 if all are taken. */
uint32_t shm_owner_take(struct shm_table *table, enum shm_slot_state state);
void shm_owner_free(struct shm_table *table, uint32_t owner);

/* Returns the owner that this process is in the program's own table, or 0 if all slots are taken. */
uint32_t shm_owner_self(void);

/*
 * Names a structure in this process's slot, before its first change. Returns 0, or
 * ENOLCK if all slots are taken or the process names SHM_HELD structures already.
 */
struct shm_hold {
	uint64_t *place;
	uint32_t owner;
	int index; /* of the place in the slot */
};
int shm_hold(const struct shm_head *head, struct shm_hold *hold);

/* Is shm_hold, and says from the beginning what this process has of the structure. */
int shm_hold_as(const struct shm_head *head, enum shm_held what, struct shm_hold *hold);

/* Notes that this thread holds what it named, until shm_hold_give. */
void shm_hold_got(const struct shm_hold *hold);

/* Finds the place of a structure that a thread of this process holds. Returns 0, or EPERM. */
int shm_hold_find(const struct shm_head *head, struct shm_hold *hold);

/*
 * Says that this process will not hold the structure any more. It is called before
 * the structure is given away: another thread may hold it an instant later, by
 * another place. Returns 0, or EPERM if another thread was first.
 */
int shm_hold_give(const struct shm_hold *hold);

/* Returns whether this thread itself holds the structure. */
int shm_hold_is_mine(const struct shm_head *head);

/* Says what this process has of the structure that the place names. */
void shm_hold_set(const struct shm_hold *hold, enum shm_held what);

/* Finds a place where this process has what is said of a structure. Returns 0, or EPERM. */
int shm_hold_find_set(const struct shm_head *head, enum shm_held what, struct shm_hold *hold);

/* Returns how many places of all processes have what is said of a structure. */
uint32_t shm_hold_count(const struct shm_head *head, enum shm_held what);

/* Clears the place, after the last change of the structure. */
void shm_unhold(const struct shm_hold *hold);

#endif
