/*
 * Locks in shared memory, for the C code of a child. Package shared has the same
 * for Go, and says what each is for. Include this header from a cgo file of your
 * own, in a program that imports package shared; nothing needs to be linked. The
 * compiler finds the header with
 *
 *	export CGO_CFLAGS="$(go env CGO_CFLAGS) -I$(go list -f '{{.Dir}}' forkshm.example/shm)/csrc"
 *
 * A structure is made by Go, which also chooses its place. A child has a structure
 * at its mapping's address plus its offset. All functions return 0 or an errno
 * value, are async-signal-safe except for the locks that a signal handler would
 * wait for itself, and make no system calls but futex(2), write(2) and fstat(2).
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
	int64_t table;   /* from the structure to the table, in bytes; 0 means the program's own table */
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

#ifdef __cplusplus
}
#endif

#endif
