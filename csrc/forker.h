/*
 * The forker: a thread that does nothing but fork, and that lives as long as
 * the process.
 *
 * Why a thread: PR_SET_PDEATHSIG kills a child when the thread that forked it
 * ends, and Go ends threads while the process goes on.
 *
 * Why it is made as the program starts, by the main thread: a thread inherits
 * the network namespace, affinity, nice value, capabilities, seccomp filters
 * and the like from the thread that makes it, and children inherit them from
 * it. Made by the first caller that needs it, it would give what that caller
 * happened to have, as a goroutine that works in another network namespace, to
 * all children from then on. What the main thread has at the start is what the
 * process has. Go's packages are initialized on the main thread, after all
 * constructors of C, some of which may fork or need to be alone (setns(2)), and
 * before the program's own code. A process that was forked makes its own
 * forker right after the fork, on its one thread, whose properties are the
 * process's by definition.
 *
 * What it costs a program that never needs it: one parked thread, about 40
 * microseconds at the start, and about 40 KiB with the kernel's part of it.
 *
 * Its stack has the size that stack.h gives every thread, as the child's
 * function runs on the copy of it.
 * All signals are blocked but those that libc keeps for itself: setuid(2) of
 * the whole process reaches this thread too.
 */
#ifndef SHM_FORKER_H
#define SHM_FORKER_H

#include <stdint.h>
#include <sys/types.h>

/* Makes the forker, unless this process has one. Returns 0 or an errno value. One call at a time. */
int shm_start_forker(void);

/*
 * Like shm_fork_start, by the forker; *call names what failed. Where the forker
 * could not be made at the start of the process it is made now, by the calling
 * thread: it has the properties of that. One call at a time.
 */
int shm_fork_by_forker(void (*start)(void *arg), void *arg, pid_t *pid, int64_t *fork_time, const char **call);

#endif
