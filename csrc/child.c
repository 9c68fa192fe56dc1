#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "child.h"
#include "forker.h"
#include "go_guard.h"
#include "pool.h"
#include "report.h"
#include "set_up.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* _exit(2) takes the low 8 bits of a result. One that is not 0 must not become 0, which is success. */
static int exit_status(int result)
{
	return result != 0 && (result & 0xff) == 0 ? 255 : result;
}

static void start_child(void *arg)
{
	const struct shm_start *s = arg;
	const struct shm_fork_args *o = s->args;
	enum shm_set_up_call failed;
	int32_t which = 0;

	if (o->flags & SHM_REPORT_CRASH)
		shm_report_crashes(&o->control->crash);
	if (o->control != NULL)
		shm_refuse_go(&o->control->crash.called_go);
	failed = shm_set_up(s, &which);
	if (o->flags & SHM_AWAIT_SET_UP)
		shm_set_up_tell(o->control, failed, which, errno);
	if (failed != SHM_CALL_NONE)
		_exit(127);
	if (o->flags & SHM_SERVE)
		shm_pool_child(o->control, o->addr, o->wake_fd);
	_exit(exit_status(o->child(o->addr, o->length)));
}

static void advise(const struct shm_range *ranges, size_t count, int advice)
{
	size_t i;

	for (i = 0; i < count; i++) /* ENOMEM tells of holes: the rest of the range is done */
		madvise((void *)ranges[i].addr, ranges[i].length, advice);
}

static int fork_lean(struct shm_start *start, struct shm_fork_args *o, const struct shm_range *lean, size_t lean_count)
{
	int err;

	o->call = "fork";
	advise(lean, lean_count, MADV_DONTFORK);
	if (o->flags & SHM_KILL_WITH_PARENT)
		err = shm_fork_by_forker(start_child, start, &o->pid, &o->fork_time, &o->call);
	else
		err = shm_fork_start(start_child, start, &o->pid, &o->fork_time);
	advise(lean, lean_count, MADV_DOFORK);
	if (err == 0 && o->flags & SHM_PROCESS_GROUP)
		setpgid(o->pid, o->pid); /* the child does so too: whoever is first */
	return err;
}

static int fork_with_control(struct shm_start *start, struct shm_fork_args *o, const struct shm_range *lean, size_t lean_count)
{
	int err;

	o->control = NULL;
	if (o->flags & (SHM_REPORT_CRASH | SHM_AWAIT_SET_UP | SHM_SERVE)) {
		o->call = "mmap";
		err = shm_control_make(&o->control);
		if (err != 0)
			return err;
	}
	err = fork_lean(start, o, lean, lean_count);
	if (err != 0) {
		shm_control_free(o->control);
		o->control = NULL;
		return err;
	}
	if (o->control != NULL)
		shm_control_hide(o->control);
	return 0;
}

int shm_fork_with(struct shm_fork_args *args, const int *keep, size_t keep_count, const struct shm_range *lean, size_t lean_count)
{
	struct shm_fork_args o = *args; /* the caller's may lie in what the child lacks */
	struct shm_start start = { .args = &o, .keep_count = keep_count, .parent = getpid() };
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
	err = fork_with_control(&start, &o, lean, lean_count);
	free(kept);
	args->call = o.call;
	args->pid = o.pid;
	args->control = o.control;
	args->fork_time = o.fork_time;
	return err;
}
