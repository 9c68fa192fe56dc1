/* The set-up of a child before its function runs. */
#ifndef SHM_SET_UP_H
#define SHM_SET_UP_H

#include "child.h"

#include <signal.h>

/* Everything that the child needs for its set-up. */
struct shm_start {
	const struct shm_fork_args *args;
	int *keep;
	size_t keep_count;
	struct shm_sandbox *sandbox; /* or NULL */
	pid_t parent;
	sigset_t mask; /* the signals that stay blocked */
};

/* Applies sigaddset or sigdelset to the signals that terminals and supervisors send to a whole process group. */
void shm_each_group_signal(int (*change)(sigset_t *set, int sig), sigset_t *set);

/*
 * Returns SHM_CALL_NONE, or the call that failed, with errno set. Of the result,
 * sets what a call has to tell. Async-signal-safe, except for the init of the
 * arguments. All signals are blocked before, so that those for the parent's group do
 * not end a child that is about to leave it.
 */
enum shm_set_up_call shm_set_up(const struct shm_start *s, struct shm_set_up *result);

#endif
