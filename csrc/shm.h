/*
 * mmap, munmap, mremap, fork and waitpid, for Go to call.
 *
 * Every function returns 0 or an errno value. Results are written through the
 * last pointers. After an error, no result is written.
 */
#ifndef SHM_H
#define SHM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* A function that runs in the child. The child ends in _exit(2) with the result. */
typedef int (*shm_child)(void *addr, size_t length);

/* A function that a pool's child runs: see shm_out_reserve in shm_child.h. */
struct shm_out;
typedef int (*shm_do)(const void *in, size_t in_length, struct shm_out *out);

enum shm_technique {
	SHM_ANONYMOUS = 1, /* MAP_ANONYMOUS */
	SHM_DEV_ZERO = 2,  /* a mapping of /dev/zero */
#ifdef USE_MAP_ANON
	SHM_BUILD_DEFAULT = SHM_ANONYMOUS,
#else
	SHM_BUILD_DEFAULT = SHM_DEV_ZERO,
#endif
};

/* Maps length bytes, readable and writable. After an error *call names the call that failed. */
int shm_map(enum shm_technique technique, size_t length, int flags, const char **call, void **addr);

int shm_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset, void **result);
int shm_munmap(void *addr, size_t length);
int shm_mremap(void *old_addr, size_t old_length, size_t new_length, int flags, void *new_addr,
	       void **result);

int shm_fork(shm_child child, void *addr, size_t length, pid_t *pid);

/*
 * Forks with all signals blocked. The child has the signal dispositions of a new C
 * program, and calls start(arg), which unblocks the signals and must not return. In
 * the parent, *fork_time is the time that fork() took, in nanoseconds.
 */
int shm_fork_start(void (*start)(void *arg), void *arg, pid_t *pid, int64_t *fork_time);
int shm_waitpid(pid_t pid, int options, pid_t *wpid, int *status);

/*
 * waitid(2) with the status word of waitpid(2). With WNOHANG, *wpid is 0 if no
 * child has changed. usage may be NULL.
 */
int shm_waitid(int id_type, int id, int options, pid_t *wpid, int *status, struct rusage *usage);

#endif
