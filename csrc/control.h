/*
 * The control page: memory that one child shares with its parent, and with
 * nobody else. By it the child reports how its set-up went and how it crashed,
 * and takes calls.
 *
 * The memory is four pages:
 *
 *	guard | set-up report | control page | guard
 *
 * Who writes what:
 *
 *   - The parent writes struct shm_request. It never reads that back: its own
 *     memory knows what it asked for.
 *   - The child writes the rest. The parent reads each word once, copies it,
 *     and checks it. What the child wrote never ends a loop, indexes, allocates,
 *     opens or signals.
 *   - The child writes the set-up report before its function begins, and unmaps
 *     it then. So nothing that runs in that function can forge the report.
 *
 * The page is made under the lock that forks take turns by, and is out of the
 * reach of later forks (MADV_DONTFORK) before that lock is let go. It is never
 * used for another child, as a child of the child may still have it.
 */
#ifndef SHM_CONTROL_H
#define SHM_CONTROL_H

#include "shm.h"

enum { SHM_CACHE_LINE = 64, SHM_MAX_MODULE = 1024 };

/* How the child's set-up went. */
enum shm_set_up_state {
	SHM_SET_UP_PENDING,
	SHM_SET_UP_DONE,
	SHM_SET_UP_FAILED,
};

/* The system call that failed in the child's set-up. */
enum shm_set_up_call {
	SHM_CALL_NONE,
	SHM_CALL_PRCTL,
	SHM_CALL_SETPGID,
	SHM_CALL_CLOSE_RANGE,
	SHM_CALL_NICE,
	SHM_CALL_SETRLIMIT,
	SHM_CALLS, /* how many there are */
};

struct shm_set_up_report {
	uint32_t state; /* futex: an enum shm_set_up_state */
	int32_t call;   /* an enum shm_set_up_call */
	int32_t which;  /* the index of the limit, if it is SHM_CALL_SETRLIMIT */
	int32_t err;    /* its errno value */
};

/* How the parent waits for a reply. */
enum shm_wait {
	SHM_WAITS_BY_FUTEX,
	SHM_WAITS_BY_SOCKET, /* the child sends a byte */
};

/* Calls are numbered from 1 on. */
struct shm_request {
	uint32_t seq;   /* futex: the number of the last call asked for */
	uint32_t waits; /* an enum shm_wait */
	shm_child child;
	size_t offset, length;
} __attribute__((aligned(SHM_CACHE_LINE)));

struct shm_reply {
	uint32_t started_seq; /* the number of the last call begun */
	uint32_t seq;         /* futex: the number of the last call answered */
	int32_t result;
} __attribute__((aligned(SHM_CACHE_LINE)));

enum shm_crash_state {
	SHM_CRASH_NONE,
	SHM_CRASH_CLAIMED,  /* a thread of the child is writing the record */
	SHM_CRASH_RECORDED, /* sig, code, addr and pc are written */
	SHM_CRASH_LOCATED,  /* base and module are written, too */
};

struct shm_crash {
	uint32_t state; /* an enum shm_crash_state */
	int32_t sig;
	int32_t code; /* si_code */
	uint32_t called_go; /* 1 if the child ended as it called Go */
	uint64_t addr, pc;
	uint64_t base;               /* where the file that holds pc begins in memory */
	char module[SHM_MAX_MODULE]; /* that file's name in /proc/self/maps, cut if it is longer; empty if there is none */
} __attribute__((aligned(SHM_CACHE_LINE)));

struct shm_control {
	struct shm_request request;
	struct shm_reply reply;
	struct shm_crash crash;
};

/* Maps the memory of a control page that the next child inherits. */
int shm_control_make(struct shm_control **control);

/* Keeps the memory from the children that are forked later. */
void shm_control_hide(struct shm_control *control);

/* Unmaps the memory. control may be NULL. */
void shm_control_free(struct shm_control *control);

/* In the child: reports how its set-up went, and unmaps that report. */
void shm_set_up_tell(struct shm_control *control, enum shm_set_up_call failed, int32_t which, int err);

/*
 * In the parent: waits until the set-up is done, has failed, or the child has
 * ended. id_type and id name the child for waitid(2).
 */
void shm_set_up_await(struct shm_control *control, int id_type, int id, struct shm_set_up_report *report);

#endif
