#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "child.h"
#include "denial.h"
#include "files.h"
#include "fork_server.h"
#include "forker.h"
#include "frames.h"
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

/* Sets the child up, and reports the result. If the set-up fails, the child ends. */
static void set_up(const struct shm_start *s, enum shm_set_up_call (*steps)(const struct shm_start *, struct shm_set_up *))
{
	const struct shm_fork_args *a = s->args;
	struct shm_set_up result = { .call = SHM_CALL_NONE };

	shm_set_owner(a->owner);
	shm_set_arg(a->arg);
	if (a->flags & SHM_REPORT_CRASH || s->sandbox != NULL)
		shm_report_to(&a->control->crash, s->sandbox == NULL);
	if (a->flags & SHM_REPORT_CRASH)
		shm_report_crashes();
	if (s->sandbox != NULL && s->sandbox->report)
		shm_report_denials();
	if (a->control != NULL)
		shm_refuse_go(&a->control->crash.called_go);
	result.call = (int32_t)steps(s, &result);
	result.err = errno;
	if (a->flags & SHM_AWAIT_SET_UP)
		shm_set_up_report(a->control, &result);
	if (result.call != SHM_CALL_NONE)
		_exit(127);
}

/* The child begins here. */
static void start_child(void *arg)
{
	const struct shm_start *s = arg;
	const struct shm_fork_args *a = s->args;

	set_up(s, shm_set_up);
	if (a->flags & SHM_SERVE)
		serve(a);
	if (a->flags & SHM_AWAIT_FUNCTION)
		_exit(exit_status(shm_server_run_function(a->control, a->addr)));
	_exit(exit_status(shm_run_child(a->child, a->addr, a->length)));
}

/* A fork server begins here. The sandbox is for its children. */
static void start_server(void *arg)
{
	struct shm_start own = *(const struct shm_start *)arg;

	own.sandbox = NULL;
	shm_each_group_signal(sigaddset, &own.mask); /* they are not for the server */
	set_up(&own, shm_server_set_up);
	shm_server_run(arg, start_child);
}

static void advise(const struct shm_range *ranges, size_t count, int advice)
{
	size_t i;

	for (i = 0; i < count; i++) /* ENOMEM means that the range has holes; the rest of it is advised */
		madvise((void *)ranges[i].addr, ranges[i].length, advice);
}

static int fork_lean(struct shm_start *start, struct shm_fork_args *a, const struct shm_range *lean, size_t lean_count)
{
	void (*begin)(void *arg) = a->flags & SHM_FORK_SERVER ? start_server : start_child;
	int err;

	a->call = "fork";
	advise(lean, lean_count, MADV_DONTFORK);
	if (a->flags & SHM_KILL_WITH_PARENT)
		err = shm_fork_by_forker(begin, start, &a->pid, &a->fork_time, &a->call);
	else
		err = shm_fork_start(begin, start, &a->pid, &a->fork_time);
	advise(lean, lean_count, MADV_DOFORK);
	if (err == 0 && a->flags & SHM_PROCESS_GROUP)
		setpgid(a->pid, a->pid); /* the child does the same; either may be first */
	return err;
}

static int fork_with_control(struct shm_start *start, struct shm_fork_args *a, const struct shm_range *lean, size_t lean_count)
{
	int err;

	a->control = NULL;
	if (shm_needs_control(a)) {
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

static void *copy_of(const void *from, size_t length)
{
	void *copy = length > 0 ? malloc(length) : NULL;

	return copy != NULL ? memcpy(copy, from, length) : NULL;
}

/* The child may lack the caller's memory. Copies of what is absent are NULL. */
static int copy_arguments(struct shm_start *start, const int *keep, const struct shm_sandbox *sandbox)
{
	start->keep = copy_of(keep, start->keep_count * sizeof(*keep));
	start->sandbox = copy_of(sandbox, sandbox != NULL ? sizeof(*sandbox) : 0);
	if ((start->keep == NULL && start->keep_count > 0) || (start->sandbox == NULL && sandbox != NULL))
		return ENOMEM;
	return 0;
}

int shm_fork_with(struct shm_fork_args *args, const int *keep, size_t keep_count, const struct shm_range *lean, size_t lean_count,
		  const struct shm_sandbox *sandbox)
{
	/*
	 * The child may lack the memory of *args. Of the thread that calls this, the
	 * forker's child has no stack: libc may use that for a thread of the child's.
	 */
	struct shm_fork_args *copy = copy_of(args, sizeof(*args));
	struct shm_start *start = calloc(1, sizeof(*start));
	int err = ENOMEM;

	if (args->flags & SHM_REPORT_CRASH)
		shm_prepare_frames();
	args->call = "malloc";
	if (copy != NULL && start != NULL) {
		*start = (struct shm_start){ .args = copy, .keep_count = keep_count, .parent = getpid() };
		copy->call = "malloc";
		err = copy_arguments(start, keep, sandbox);
		if (err == 0)
			err = fork_with_control(start, copy, lean, lean_count);
		free(start->keep);
		free(start->sandbox);
		args->call = copy->call;
		args->pid = copy->pid;
		args->control = copy->control;
		args->fork_time = copy->fork_time;
	}
	free(start);
	free(copy);
	return err;
}
