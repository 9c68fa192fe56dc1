/*
 * Locks, rings and an allocator in shared memory, for the C code of a child.
 * Package shared has the same for Go, and says what each is for. Include this
 * header from a cgo file of your own, in a program that imports package shared;
 * nothing needs to be linked. This command puts a copy of the header beside
 * your cgo file:
 *
 *	go run forkshm.example/shm/cmd/childheader shm_shared.h
 *
 * Go makes each structure, and chooses its place. In a child, the structure is
 * at the mapping's address plus the structure's offset. Functions of type int return 0
 * or an errno value. They make no system calls but futex(2), write(2) and
 * fstat(2). They are async-signal-safe, but a signal handler must not lock what
 * the interrupted code may hold.
 */
#ifndef SHM_SHARED_H
#define SHM_SHARED_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Defined in package shared. The symbols are weak, as cgo links each package alone before the program. */
#ifndef SHM_SHARED_API
#define SHM_SHARED_API __attribute__((weak))
#endif

/* What a structure is. The numbers are unlikely to be there by chance. */
enum shm_kind {
	SHM_KIND_MUTEX = 0x6d687301,
	SHM_KIND_RWMUTEX,
	SHM_KIND_SEMAPHORE,
	SHM_KIND_EVENT,
	SHM_KIND_BARRIER,
	SHM_KIND_RING,
	SHM_KIND_ARENA,
};

/*
 * The beginning of each structure. Go writes it when it makes the structure, and
 * never reads it again.
 */
struct shm_head {
	uint32_t kind;   /* an enum shm_kind */
	uint32_t family; /* the number of the table of owners that the structure uses */
	uint64_t where;  /* names the structure in that table: never 0 */
	uint64_t reserved;
};

/* Where threads and goroutines sleep. package shared, gate_linux.go */
struct shm_gate {
	uint32_t seq;      /* futex: changes before sleepers are woken */
	uint32_t sleepers; /* flags: enum shm_sleeper */
};

enum shm_sleeper {
	SHM_SLEEPS_BY_FUTEX = 1, /* a thread waits for the futex */
	SHM_SLEEPS_BY_BELL = 2,  /* a goroutine waits for the bell */
};

/*
 * A lock. Its owner is a process: threads of one process exclude each other, and
 * any of them may unlock.
 */
typedef struct shm_mutex {
	struct shm_head head;
	uint32_t word; /* futex: the owner and flags. mutex.h */
	uint32_t unused[9];
} __attribute__((aligned(64))) shm_mutex;

/*
 * Waits until this process holds the lock. timeout is from now on; NULL means no
 * limit. Returns
 *
 *	0                 the lock is held
 *	EOWNERDEAD        the lock is held, and its last owner died: what it guards may be
 *	                  changed in part. Mend that, and call shm_consistent
 *	ENOTRECOVERABLE   the lock can never be held again
 *	ETIMEDOUT         the time is over
 *	EDEADLK           this thread holds the lock already
 *	ENOLCK            this process holds 16 locks already, or all owners are taken
 */
SHM_SHARED_API int shm_lock(shm_mutex *l, const struct timespec *timeout);

/* Is shm_lock without waiting: EBUSY if the lock is held. */
SHM_SHARED_API int shm_trylock(shm_mutex *l);

/* Says that what the lock guards is good again. EPERM if this process does not hold the lock. */
SHM_SHARED_API int shm_consistent(shm_mutex *l);

/*
 * Releases the lock. EPERM if this process does not hold it. After EOWNERDEAD
 * without shm_consistent, the lock is not recoverable from then on.
 */
SHM_SHARED_API int shm_unlock(shm_mutex *l);

/*
 * The other structures. In their functions, timeout is from now on, and NULL means
 * no limit. They return 0, ETIMEDOUT, ENOLCK as shm_lock does, and what is said.
 */

/* A lock that one process holds for writing, or several for reading. */
typedef struct shm_rwmutex {
	struct shm_head head;
	uint32_t word;        /* futex: guards the rest. room.h */
	struct shm_gate gate; /* where readers and writers wait */
	uint32_t reserved;
	uint32_t state;  /* flags: the writer died, the lock is lost */
	uint32_t writer; /* the owner that writes, or 0 */
	uint32_t readers;
	uint32_t waiting_writers, waiting_readers;
	uint32_t admitted; /* readers that come before the writers that wait */
} __attribute__((aligned(64))) shm_rwmutex;

/*
 * Waits until this process reads or writes. EOWNERDEAD after a writer died, and
 * ENOTRECOVERABLE, are as for shm_lock; so is EDEADLK. A reader that gets EOWNERDEAD
 * reads what may be changed in part: it unlocks, and locks for writing to mend it.
 */
SHM_SHARED_API int shm_rdlock(shm_rwmutex *l, const struct timespec *timeout);
SHM_SHARED_API int shm_wrlock(shm_rwmutex *l, const struct timespec *timeout);

/* Says that what the lock guards is good again. EPERM if this process does not write. */
SHM_SHARED_API int shm_rwconsistent(shm_rwmutex *l);

/* Ends a read or a write. EPERM if this process has none. */
SHM_SHARED_API int shm_rdunlock(shm_rwmutex *l);
SHM_SHARED_API int shm_wrunlock(shm_rwmutex *l);

/* Units that processes have for a time. What a process had when it died comes back. */
typedef struct shm_semaphore {
	struct shm_head head;
	uint32_t word;
	struct shm_gate gate;
	uint32_t reserved;
	uint32_t limit; /* the number of units */
	uint32_t used;
	uint32_t unused[4];
} __attribute__((aligned(64))) shm_semaphore;

SHM_SHARED_API int shm_acquire(shm_semaphore *s, const struct timespec *timeout);

/* Gives a unit back. EPERM if this process has none. */
SHM_SHARED_API int shm_release(shm_semaphore *s);

/* A flag to wait for. */
typedef struct shm_event {
	struct shm_head head;
	uint32_t set;
	struct shm_gate gate;
	uint32_t unused[7];
} __attribute__((aligned(64))) shm_event;

SHM_SHARED_API int shm_event_wait(shm_event *e, const struct timespec *timeout);
SHM_SHARED_API void shm_event_set(shm_event *e);
SHM_SHARED_API void shm_event_reset(shm_event *e);

/* A place where a number of parties wait for each other. */
typedef struct shm_barrier {
	struct shm_head head;
	uint32_t word;
	struct shm_gate gate;
	uint32_t reserved;
	uint32_t parties;
	uint32_t arrived; /* in this round */
	uint32_t round;
	uint32_t unused[3];
} __attribute__((aligned(64))) shm_barrier;

/* Waits until all parties are here. A party that gives up, or dies, is not here. */
SHM_SHARED_API int shm_barrier_wait(shm_barrier *b, const struct timespec *timeout);

/*
 * An allocator. Blocks are named by their offsets from the arena, which are the same
 * in all processes: 0 is no block. Go stores such an offset as a Ref.
 */
struct shm_arena_hint {
	uint32_t unit; /* where a chunk of the class begins that may have a free block */
	uint32_t more; /* whether other chunks of the class may have one */
};

typedef struct shm_arena {
	struct shm_head head;
	uint32_t word;        /* futex: guards the making of chunks. arena.h */
	struct shm_gate gate; /* where those wait that wait for more units */
	uint32_t reserved;
	uint32_t max;    /* units that the arena can have, of 4 KiB */
	uint32_t units;  /* units that the arena has now */
	uint32_t next;   /* the first unit that is in no chunk */
	uint32_t wanted; /* the number of units that somebody waits for */
	uint32_t limit;  /* units up to which the program can make the arena grow */
	uint32_t unused;
	struct shm_arena_hint hint[135]; /* of each size class */
	uint32_t table[1];               /* a word for each unit */
} __attribute__((aligned(64))) shm_arena;

/*
 * Makes a block of size bytes, which are 0, and stores its offset in *to, which must
 * be 0 and lie in the arena's mapping. If the process dies, there is either both or
 * nothing: so a block belongs to who has *to. The block is aligned to 16 bytes, and
 * to 64 if size is a multiple of 64. shm_alloc may lock the arena for a moment, and
 * waits up to 2 seconds if the program is to make the arena grow. Returns the offset,
 * or 0 with errno:
 *
 *	ENOMEM   the arena is full
 *	EEXIST   *to is not 0
 *	EINVAL   this is no arena, or to is not aligned to 8 bytes
 *	ENOLCK   as for shm_lock; a thread holds a place while it allocates or frees
 */
SHM_SHARED_API uint64_t shm_alloc(shm_arena *a, size_t size, uint64_t *to);

/*
 * Sets *from to 0, and frees the block that it named. Returns 0, or
 *
 *	EINVAL   *from is 0, or names no block that is in use: it was freed already
 *	EBUSY    another process has been about to take or free the block for a second
 *	ENOLCK   as for shm_alloc
 */
SHM_SHARED_API int shm_free(shm_arena *a, uint64_t *from);

/* Returns the address of what is at an offset, or NULL if that is 0 or beyond the arena. */
SHM_SHARED_API void *shm_at(shm_arena *a, uint64_t off);

/*
 * A ring carries records from one process, the producer, to one other, the consumer.
 * A record has any length, and is contiguous in memory. The ring's bytes begin with a
 * struct shm_ring_words, and the records follow.
 */
enum shm_ring_end {
	SHM_RING_PRODUCER,
	SHM_RING_CONSUMER,
};

/* What an end writes, except for what its sleep needs. */
struct shm_ring_side {
	uint64_t position; /* how many bytes the end is done with. ring.h */
	uint64_t unused[7];
	uint64_t wake_at;     /* the position of the other end at which this one is to be woken */
	struct shm_gate gate; /* where this end sleeps. The other end wakes it */
	uint64_t reserved[6];
};

struct shm_ring_words {
	struct shm_head head;
	uint64_t size;   /* of all of the ring, in bytes */
	uint32_t end[2]; /* the owner that is each end, and flags. ring.h */
	uint64_t unused[3];
	struct shm_ring_side side[2];
} __attribute__((aligned(64)));

/*
 * An end of a ring, in memory of the process's own. Its members are for the functions
 * below alone.
 */
typedef struct shm_ring {
	struct shm_ring_words *words;
	uint64_t capacity;  /* the bytes that records can take */
	uint64_t position;  /* of this end */
	uint64_t available; /* bytes that are free, or to be read, as far as this end knows */
	uint64_t offset;    /* where the next record is */
	uint64_t taken;     /* bytes that the next commit or release is done with, or 0 */
	uint32_t end;       /* an enum shm_ring_end */
} shm_ring;

/*
 * Makes this process an end of the ring that Go has made of the size bytes at ring.
 * The process stays it until shm_ring_close. It may open the same end again, and goes
 * on behind the last record that was committed or released. Returns 0, or
 *
 *	EINVAL   there is no ring of that size, or no such end
 *	EBUSY    another process is this end of the ring
 *	EPIPE    this end was closed, or its process died
 *	EBADMSG  the ring's bytes were overwritten
 *	ENOLCK   this process has 16 ends and locks already, or all owners are taken
 */
SHM_SHARED_API int shm_ring_open(shm_ring *r, void *ring, size_t size, enum shm_ring_end end);

/*
 * Waits until there is room for a record of n bytes, and stores its address in *p, for
 * the producer to write the record there. The address is a multiple of 8. A record that
 * was reserved before and not committed is given up. timeout is as for the other
 * structures. Returns 0, or
 *
 *	EMSGSIZE    the ring can have no record that long: see shm_ring_max
 *	ETIMEDOUT   the time is over
 *	EPIPE       the consumer has closed the ring
 *	EOWNERDEAD  the consumer died
 *	EBADMSG     the ring's bytes were overwritten
 */
SHM_SHARED_API int shm_ring_reserve(shm_ring *r, size_t n, const struct timespec *timeout, void **p);

/* Publishes the record that was reserved. EPERM if there is none. */
SHM_SHARED_API int shm_ring_commit(shm_ring *r);

/* Returns the length of the longest record that the ring can have. */
SHM_SHARED_API size_t shm_ring_max(const shm_ring *r);

/*
 * Waits for a record, and stores its address in *p and its length in *n. The record
 * stays until shm_ring_release. Whoever can write to the ring can change it meanwhile.
 * Returns 0, or
 *
 *	ETIMEDOUT   the time is over
 *	EPIPE       the producer has closed the ring, and all records were released
 *	EOWNERDEAD  the producer died, and all records that it committed were released
 *	EBADMSG     the ring's bytes were overwritten
 */
SHM_SHARED_API int shm_ring_peek(shm_ring *r, const struct timespec *timeout, void **p, size_t *n);

/* Gives the room of the record that was seen back to the producer. EPERM if there is none. */
SHM_SHARED_API int shm_ring_release(shm_ring *r);

/* Says that no more is committed or released at this end. The other end is told so. */
SHM_SHARED_API void shm_ring_close(shm_ring *r);

#ifdef __cplusplus
}
#endif

#endif
