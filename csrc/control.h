/*
 * The control page: memory that one child shares with its parent, and with no
 * other process. In it the child reports the result of its set-up and the place
 * of a crash, and gets calls.
 *
 * The memory is four pages, and before them the slot, if there is one:
 *
 *	guard | slot | guard | set-up report | control page | guard
 *
 * The slot has the bytes that go in and out of a pool's child: see Pool.Do.
 *
 * Who writes what:
 *
 *   - The parent writes struct shm_request, and never reads it back. The parent
 *     keeps a copy of its requests in its own memory.
 *   - The child writes the rest. The parent reads each word once, copies it, and
 *     checks the copy. A word that the child wrote never ends a loop, and is never
 *     used as an index, a size to allocate, a name to open, or a process id.
 *   - The child writes the set-up report before its function begins, and then
 *     unmaps the report. The report is an object of its own, and the function has
 *     no other mapping of it. So the function cannot forge the report. A child of a
 *     fork server has one object for all pages, but gets its function only after the
 *     parent has read the report.
 *
 * Forks hold a lock. The page is made under that lock, and is kept out of later
 * forks (MADV_DONTFORK) before the lock is released. The page is never used for
 * another child, because a child of the child may still have it.
 */
#ifndef SHM_CONTROL_H
#define SHM_CONTROL_H

#include "shm.h"

enum {
	SHM_CACHE_LINE = 64,
	SHM_MAX_MODULE = 1024,
	SHM_MAX_FRAMES = 16,
};

/* The result of the child's set-up. */
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
	SHM_CALL_MMAP, /* from here on, those of a sandbox */
	SHM_CALL_CAPSET,
	SHM_CALL_NO_NEW_PRIVS,
	SHM_CALL_LANDLOCK,
	SHM_CALL_SECCOMP,
	SHM_CALL_INIT, /* no system call: init of the arguments failed; which is its result */

	/* What a fork server lacks: see fork_server.h. */
	SHM_CALL_CLONE_PARENT,
	SHM_CALL_TID_ADDRESS,
	SHM_CALL_ROBUST_LIST,
	SHM_CALL_ROBUST_MUTEX, /* no system call: a robust mutex is locked */
	SHM_CALL_THREADS,      /* no system call: which is the number of threads */
	SHM_CALL_DUP2,         /* for the standard files */
	SHM_CALL_FCHDIR,
	SHM_CALL_MEMORY_LIMIT,
	SHM_CALLS, /* the number of these constants */
};

struct shm_set_up {
	uint32_t state;    /* futex: an enum shm_set_up_state */
	int32_t call;      /* an enum shm_set_up_call */
	int32_t which;     /* for SHM_CALL_SETRLIMIT the index of the limit; for others see enum shm_set_up_call */
	int32_t err;       /* the errno value of the call that failed */
	int32_t sandboxed; /* what of a sandbox holds: enum shm_sandboxed */
};

/* How the parent waits for a reply. */
enum shm_wait {
	SHM_WAITS_BY_FUTEX,
	SHM_WAITS_BY_SOCKET, /* the child sends a byte */
};

/* What a request asks for. */
enum shm_request_kind {
	SHM_REQUEST_CALL, /* a shm_child, with memory of the mapping */
	SHM_REQUEST_DO,   /* a shm_do, with the bytes in the slot */
};

/* A call to a pool's child. Calls are numbered from 1. */
struct shm_request {
	uint32_t seq;   /* futex: the number of the last request */
	uint32_t waits; /* an enum shm_wait */
	uint32_t kind;  /* an enum shm_request_kind */
	uint32_t unused;
	void (*function)(void); /* a shm_child or a shm_do */
	size_t offset;          /* for SHM_REQUEST_CALL */
	size_t length;          /* for SHM_REQUEST_DO: of the bytes in the slot */
} __attribute__((aligned(SHM_CACHE_LINE)));

struct shm_reply {
	uint32_t started_seq; /* the number of the last call that has started */
	uint32_t seq;         /* futex: the number of the last reply */
	uint64_t out_length;  /* for SHM_REQUEST_DO: the bytes of the answer in the slot */
	uint64_t out_used;    /* and the bytes that the function had room for */
	int32_t result;
	int32_t unused;
} __attribute__((aligned(SHM_CACHE_LINE)));

enum shm_crash_state {
	SHM_CRASH_NONE,
	SHM_CRASH_CLAIMED,  /* a thread of the child is writing the record */
	SHM_CRASH_RECORDED, /* sig, code, addr and pc are written */
	SHM_CRASH_LOCATED,  /* base and module are written as well */
};

/* Where a function that has called another goes on, and the file that has it, if the child knows. */
struct shm_frame {
	uint64_t pc;
	uint64_t base, inode; /* the address of the file's beginning, and its number; 0 is not known */
};

struct shm_crash {
	uint32_t state; /* an enum shm_crash_state */
	int32_t sig;
	int32_t code;       /* si_code */
	uint32_t called_go; /* 1 if the child ended because it called Go */
	uint64_t addr, pc;
	uint64_t base;   /* the address of the beginning of the file that contains pc */
	int32_t syscall; /* for SIGSYS: the system call that was denied, */
	uint32_t arch;   /* and its AUDIT_ARCH_* */
	uint32_t frames; /* how many callers are recorded */
	uint32_t unused;
	struct shm_frame frame[SHM_MAX_FRAMES];
	char module[SHM_MAX_MODULE]; /* that file's name in /proc/self/maps, cut if too long, or empty */
} __attribute__((aligned(SHM_CACHE_LINE)));

struct shm_control {
	struct shm_request request;
	struct shm_reply reply;
	struct shm_crash crash;
};

/*
 * Maps a control page, the pages around it, and a slot of so many bytes, which
 * are whole pages. The next child inherits them. A slot of 0 bytes is none.
 */
int shm_control_make(size_t slot, struct shm_control **control);

/*
 * The same, for a child of a fork server, which cannot inherit the memory. It is
 * that of an object, a sealed memfd. The child maps the object by *fd, which the
 * caller closes.
 */
int shm_control_make_object(int *fd, size_t slot, struct shm_control **control);

/* In that child: maps the object. */
int shm_control_map(int fd, size_t slot, struct shm_control **control);

/* Returns the first byte of the slot. */
char *shm_control_slot(struct shm_control *control, size_t slot);

/* Keeps the memory out of children that are forked later. */
void shm_control_hide(struct shm_control *control, size_t slot);

/* Unmaps the memory. control may be NULL. */
void shm_control_free(struct shm_control *control, size_t slot);

/* In the child: reports the result of the set-up, whose state is not set yet, and unmaps the report. */
void shm_set_up_report(struct shm_control *control, const struct shm_set_up *result);

/*
 * In the parent: waits for the end of the set-up, timeout nanoseconds at most. The
 * kernel wakes no futex when the child ends. So the caller checks for that, too.
 */
void shm_set_up_await(struct shm_control *control, int64_t timeout, struct shm_set_up *report);

#endif
