#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "set_up.h"
#include "close_fds.h"
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/*
 * The limit of descriptors when the program was loaded. Package syscall raises
 * the soft limit later, to one less than the hard limit.
 */
static struct rlimit files_at_load;

__attribute__((constructor)) static void remember_files(void)
{
	if (getrlimit(RLIMIT_NOFILE, &files_at_load) == -1)
		files_at_load.rlim_cur = files_at_load.rlim_max = 0;
}

static int is_limited(const struct shm_fork_args *o, int resource)
{
	int i;

	for (i = 0; i < o->limits_count; i++)
		if (o->limits[i].resource == resource)
			return 1;
	return 0;
}

/*
 * Restores the soft limit of descriptors, as os/exec does. C programs may depend
 * on it: select(2) does not work with more than 1024. If the program itself has
 * set a limit since it was loaded, that limit stays.
 */
static void restore_files(void)
{
	struct rlimit now;

	if (getrlimit(RLIMIT_NOFILE, &now) == -1)
		return;
	if (now.rlim_max == files_at_load.rlim_max && now.rlim_cur == now.rlim_max - 1 && files_at_load.rlim_cur < now.rlim_cur)
		setrlimit(RLIMIT_NOFILE, &files_at_load);
}

static int set_limits(const struct shm_fork_args *o, int32_t *which)
{
	int i;

	for (i = 0; i < o->limits_count; i++) {
		struct rlimit limit = { (rlim_t)o->limits[i].cur, (rlim_t)o->limits[i].max };

		*which = i;
		if (setrlimit((int)o->limits[i].resource, &limit) == -1)
			return -1;
	}
	return 0;
}

/*
 * Makes the kernel's OOM killer kill the child before its parent, even if the
 * parent has more memory. Without /proc this has no effect.
 */
static void be_killed_first(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd == -1)
		return;
	if (write(fd, "1000", 4) == -1) {
		/* a sandbox forbids it: the value stays */
	}
	close(fd);
}

/*
 * The parent may have ended before PR_SET_PDEATHSIG takes effect. getppid shows
 * that: the forker's children are always in the forker's pid namespace.
 */
static int end_with(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1)
		return -1;
	if (getppid() != parent)
		kill(getpid(), SIGKILL);
	return 0;
}

static const int group_signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGTSTP, SIGTTIN, SIGTTOU };

void shm_each_group_signal(int (*change)(sigset_t *set, int sig), sigset_t *set)
{
	size_t i;

	for (i = 0; i < sizeof(group_signals) / sizeof(group_signals[0]); i++)
		change(set, group_signals[i]);
}

/* Forgets the signals for the group that the child has left. To ignore a signal does that. */
static void forget_group_signals(void)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct sigaction was;
	sigset_t pending;
	size_t i;

	sigpending(&pending);
	for (i = 0; i < sizeof(group_signals) / sizeof(group_signals[0]); i++) {
		if (!sigismember(&pending, group_signals[i]))
			continue;
		sigaction(group_signals[i], &ignore, &was);
		sigaction(group_signals[i], &was, NULL);
	}
}

static int lead_group(void)
{
	if (setpgid(0, 0) == -1)
		return -1;
	forget_group_signals();
	return 0;
}

enum shm_set_up_call shm_set_up(const struct shm_start *s, struct shm_set_up *result)
{
	const struct shm_fork_args *o = s->args;

	if (o->flags & SHM_PROCESS_GROUP && lead_group() == -1)
		return SHM_CALL_SETPGID;
	sigprocmask(SIG_SETMASK, &s->mask, NULL);
	if (o->flags & SHM_KILL_WITH_PARENT && end_with(s->parent) == -1)
		return SHM_CALL_PRCTL;
	if (o->flags & SHM_OOM_FIRST)
		be_killed_first();
	if (shm_set_files(o) == -1)
		return SHM_CALL_DUP2;
	if (shm_set_directory(o) == -1)
		return SHM_CALL_FCHDIR;
	if (o->flags & SHM_CLOSE_FDS && shm_close_fds(s->keep, s->keep_count) == -1)
		return SHM_CALL_CLOSE_RANGE;
	if (o->nice != 0) {
		errno = 0;
		if (nice(o->nice) == -1 && errno != 0)
			return SHM_CALL_NICE;
	}
	if (!is_limited(o, RLIMIT_NOFILE))
		restore_files();
	if (set_limits(o, &result->which) == -1)
		return SHM_CALL_SETRLIMIT;
	if (o->memory_limit != 0 && shm_set_memory_limit(o->memory_limit) == -1)
		return SHM_CALL_MEMORY_LIMIT;
	if (o->init != NULL) {
		result->which = o->init(o->addr, o->length);
		if (result->which != 0)
			return SHM_CALL_INIT;
	}
	if (s->sandbox != NULL)
		return shm_enter_sandbox(s->sandbox, &result->sandboxed);
	return SHM_CALL_NONE;
}
