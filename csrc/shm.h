/*
 * The shim: mmap, munmap, mremap, fork and waitpid as C has them.
 *
 * Every function returns 0, or the errno value of what failed, and then leaves
 * its results unwritten. Results go out through the last pointers.
 */
#ifndef SHM_H
#define SHM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Runs in the child, which ends in _exit(2) with what it returns. */
typedef int (*shm_child)(void *addr, size_t length);

enum shm_technique {
	SHM_ANONYMOUS = 1, /* MAP_ANONYMOUS */
	SHM_DEV_ZERO = 2,  /* a mapping of /dev/zero */
#ifdef USE_MAP_ANON
	SHM_BUILD_DEFAULT = SHM_ANONYMOUS,
#else
	SHM_BUILD_DEFAULT = SHM_DEV_ZERO,
#endif
};

/* Maps length bytes, readable and writable, by the technique; *call names the call that failed. */
int shm_map(enum shm_technique technique, size_t length, int flags, const char **call, void **addr);

int shm_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset, void **result);
int shm_munmap(void *addr, size_t length);
int shm_mremap(void *old_addr, size_t old_length, size_t new_length, int flags, void *new_addr, void **result);

int shm_fork(shm_child child, void *addr, size_t length, pid_t *pid);

/*
 * Forks with all signals blocked. The child, its signals as a fresh C program
 * has them, calls start(arg), which must not return. In the parent, *fork_time is
 * how long fork() took, in nanoseconds.
 */
int shm_fork_start(void (*start)(void *arg), void *arg, pid_t *pid, int64_t *fork_time);
int shm_waitpid(pid_t pid, int options, pid_t *wpid, int *status);

/* waitid(2) with the status word of waitpid(2). *wpid is 0 if WNOHANG finds nothing to tell. usage may be NULL. */
int shm_waitid(int id_type, int id, int options, pid_t *wpid, int *status, struct rusage *usage);

#endif
