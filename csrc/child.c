#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "child.h"
#include "forker.h"
#include "go_guard.h"
#include "owner.h"
#include "pool.h"
#include "report.h"
#include "set_up.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * _exit(2) takes the low 8 bits of the result. A result other than 0 must not
 * become 0, which means success.
 */
static int exit_status(int result)
{
	return result != 0 && (result & 0xff) == 0 ? 255 : result;
}

static void serve(const struct shm_fork_args *a)
{
	char *slot = shm_control_slot(a->control, a->slot);
	struct shm_pool_memory memory = { .base = a->addr, .in = slot, .out = slot + a->slot_out, .max_out = a->max_out };

	shm_pool_child(a->control, &memory, a->wake_fd);
}

/* The child begins here. */
static void start_child(void *arg)
{
	const struct shm_start *s = arg;
	const struct shm_fork_args *a = s->args;
	enum shm_set_up_call failed;
	int32_t which = 0;

	shm_set_owner(a->owner);
	if (a->flags & SHM_REPORT_CRASH)
		shm_report_crashes(&a->control->crash);
	if (a->control != NULL)
		shm_refuse_go(&a->control->crash.called_go);
	failed = shm_set_up(s, &which);
	if (a->flags & SHM_AWAIT_SET_UP)
		shm_set_up_report(a->control, failed, which, errno);
	if (failed != SHM_CALL_NONE)
		_exit(127);
	if (a->flags & SHM_SERVE)
		serve(a);
	_exit(exit_status(a->child(a->addr, a->length)));
}

static void advise(const struct shm_range *ranges, size_t count, int advice)
{
	size_t i;

	for (i = 0; i < count; i++) /* ENOMEM means that the range has holes; the rest of it is advised */
		madvise((void *)ranges[i].addr, ranges[i].length, advice);
}

static int fork_lean(struct shm_start *start, struct shm_fork_args *a, const struct shm_range *lean, size_t lean_count)
{
	int err;

	a->call = "fork";
	advise(lean, lean_count, MADV_DONTFORK);
	if (a->flags & SHM_KILL_WITH_PARENT)
		err = shm_fork_by_forker(start_child, start, &a->pid, &a->fork_time, &a->call);
	else
		err = shm_fork_start(start_child, start, &a->pid, &a->fork_time);
	advise(lean, lean_count, MADV_DOFORK);
	if (err == 0 && a->flags & SHM_PROCESS_GROUP)
		setpgid(a->pid, a->pid); /* the child does the same; either may be first */
	return err;
}

static int fork_with_control(struct shm_start *start, struct shm_fork_args *a, const struct shm_range *lean, size_t lean_count)
{
	int err;

	a->control = NULL;
	if (a->flags & (SHM_REPORT_CRASH | SHM_AWAIT_SET_UP | SHM_SERVE)) {
		a->call = "mmap";
		err = shm_control_make(a->slot, &a->control);
		if (err != 0)
			return err;
	}
	err = fork_lean(start, a, lean, lean_count);
	if (err != 0) {
		shm_control_free(a->control, a->slot);
		a->control = NULL;
		return err;
	}
	if (a->control != NULL)
		shm_control_hide(a->control, a->slot);
	return 0;
}

int shm_fork_with(struct shm_fork_args *args, const int *keep, size_t keep_count, const struct shm_range *lean, size_t lean_count)
{
	struct shm_fork_args copy = *args; /* the child may lack the memory of *args */
	struct shm_start start = { .args = &copy, .keep_count = keep_count, .parent = getpid() };
	int *kept = NULL;
	int err;

	if (keep_count > 0) {
		kept = malloc(keep_count * sizeof(*kept));
		if (kept == NULL) {
			args->call = "malloc";
			return ENOMEM;
		}
		memcpy(kept, keep, keep_count * sizeof(*kept));
	}
	start.keep = kept;
	err = fork_with_control(&start, &copy, lean, lean_count);
	free(kept);
	args->call = copy.call;
	args->pid = copy.pid;
	args->control = copy.control;
	args->fork_time = copy.fork_time;
	return err;
}
