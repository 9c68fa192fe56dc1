/*
 * The forker: a thread that only forks, and that lives as long as the process.
 *
 * Why a thread: PR_SET_PDEATHSIG kills a child when the thread that forked the
 * child ends. Go ends threads while the process runs on.
 *
 * Why the main thread makes the forker when the program starts: a thread
 * inherits the network namespace, affinity, nice value, capabilities and seccomp
 * filters of the thread that makes it, and a child inherits those of the thread
 * that forks it. If the first caller made the forker, all later children would
 * get the properties of that caller, which may work in another network namespace.
 * At the start of the program, the main thread's properties are those of the
 * process. Go initializes its packages on the main thread, before the program's
 * own code and after all constructors of C. Some of these constructors may fork,
 * or need a process with one thread (setns(2)). A forked process makes its own
 * forker right after the fork, on its only thread.
 *
 * A program that never uses the forker pays for one sleeping thread: about 40
 * microseconds at the start, and about 40 KiB, the kernel's part included.
 *
 * The forker's stack has the size that stack.h gives to every thread, because
 * the child's function runs on a copy of that stack.
 *
 * All signals are blocked, except those that libc uses itself. So setuid(2) of
 * the whole process works on this thread, too.
 */
#ifndef SHM_FORKER_H
#define SHM_FORKER_H

#include <stdint.h>
#include <sys/types.h>

/* Makes the forker if this process has none. Returns 0 or an errno value. One call at a time. */
int shm_start_forker(void);

/*
 * Like shm_fork_start, but the forker forks. *call names the call that failed. If
 * the forker could not be made at the start of the process, the calling thread
 * makes it now, and the forker inherits that thread's properties. One call at a
 * time.
 */
int shm_fork_by_forker(void (*start)(void *arg), void *arg, pid_t *pid, int64_t *fork_time, const char **call);

/*
 * Reaps a child if it has ended, and if the forker has forked it, or one of the
 * forker's children by CLONE_PARENT. So the children of others are left alone,
 * whatever pid is. One call at a time.
 */
void shm_reap_by_forker(pid_t pid);

/*
 * Returns whether there is such a child, and the forker has forked it, or one of
 * the forker's children by CLONE_PARENT. One call at a time.
 */
int shm_is_forkers_child(pid_t pid);

#endif
