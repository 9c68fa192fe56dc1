#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sandbox.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_restrict_self
#define SYS_landlock_restrict_self 446 /* Linux 5.13 */
#endif

enum {
	NO_NEW_PRIVS = 38,         /* PR_SET_NO_NEW_PRIVS */
	CAP_AMBIENT = 47,          /* PR_CAP_AMBIENT, Linux 4.3 */
	CAP_AMBIENT_CLEAR = 4,     /* PR_CAP_AMBIENT_CLEAR_ALL */
	CAPABILITIES = 0x20080522, /* _LINUX_CAPABILITY_VERSION_3 */
	SET_FILTER = 1,            /* SECCOMP_SET_MODE_FILTER */
};

/*
 * A shared mapping of a descriptor that is open for reading alone can never be
 * made writable.
 */
static int map_read_only(const struct shm_sandbox *s)
{
	uint32_t i;

	for (i = 0; i < s->read_only_count; i++) {
		const struct shm_span *r = &s->read_only[i];

		if (mmap((void *)r->addr, r->length, PROT_READ, MAP_SHARED | MAP_FIXED, s->read_only_fd, (off_t)r->offset) == MAP_FAILED)
			return -1;
	}
	return 0;
}

/* The program of a user who may do all may do so by its capabilities. The child has none. */
static int drop_capabilities(void)
{
	struct {
		uint32_t version;
		int32_t pid;
	} header = { CAPABILITIES, 0 };
	const struct {
		uint32_t effective, permitted, inheritable;
	} none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };

	prctl(CAP_AMBIENT, CAP_AMBIENT_CLEAR, 0, 0, 0); /* without inheritable ones there are no ambient ones */
	return (int)syscall(SYS_capset, &header, none);
}

static int install_filter(struct shm_sandbox *s)
{
	struct {
		unsigned short length;
		struct shm_filter *filter;
	} program = { (unsigned short)s->filter_length, s->filter };
	uint32_t i;

	for (i = 0; i < s->self_count; i++)
		s->filter[s->self[i]].k = (uint32_t)getpid();
	return (int)syscall(SYS_seccomp, SET_FILTER, 0, &program);
}

static void close_own(const struct shm_sandbox *s)
{
	if (s->landlock_fd != -1)
		close(s->landlock_fd);
	if (s->read_only_fd != -1)
		close(s->read_only_fd);
}

/*
 * Dumpable the child stays: else the parent, whose privileges may be no more than
 * the child's, could not read how much memory the child uses.
 */
enum shm_set_up_call shm_enter_sandbox(struct shm_sandbox *s, int32_t *holds)
{
	*holds = 0;
	if (map_read_only(s) == -1)
		return SHM_CALL_MMAP;
	if (drop_capabilities() == -1 && !s->optional)
		return SHM_CALL_CAPSET;
	if (prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == -1 && !s->optional)
		return SHM_CALL_NO_NEW_PRIVS;
	if (s->landlock_fd != -1) {
		if (syscall(SYS_landlock_restrict_self, s->landlock_fd, 0) == 0)
			*holds |= SHM_SANDBOXED_LANDLOCK;
		else if (!s->optional)
			return SHM_CALL_LANDLOCK;
	}
	close_own(s);
	if (install_filter(s) == 0)
		*holds |= SHM_SANDBOXED_FILTER;
	else if (!s->optional)
		return SHM_CALL_SECCOMP;
	return SHM_CALL_NONE;
}
