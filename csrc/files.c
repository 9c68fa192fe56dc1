#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "files.h"
#include "shm_child.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

uintptr_t shm_child_arg;

void shm_set_arg(uintptr_t arg)
{
	shm_child_arg = arg;
}

/* All descriptors in args are above 2, so that no dup2 closes the next one. 0 means none. */
int shm_set_files(const struct shm_fork_args *args)
{
	int i;

	for (i = 0; i < 3; i++) {
		if (args->files[i] == 0)
			continue;
		if (dup2(args->files[i], i) == -1)
			return -1;
		close(args->files[i]);
	}
	for (i = 0; i < 2; i++) /* the parent's ends of pipes */
		if (args->drop[i] != 0)
			close(args->drop[i]);
	return 0;
}

int shm_set_directory(const struct shm_fork_args *args)
{
	if (args->dir_fd == 0)
		return 0;
	if (fchdir(args->dir_fd) == -1)
		return -1;
	close(args->dir_fd);
	return 0;
}

/* Returns the size of this process's address space, in bytes, or 0 with errno set. See proc_pid_statm(5). */
static uint64_t address_space(void)
{
	char text[32];
	uint64_t n = 0;
	ssize_t i, length;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	if (fd == -1)
		return 0;
	length = read(fd, text, sizeof(text));
	close(fd);
	for (i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++)
		n = n * 10 + (uint64_t)(text[i] - '0');
	if (n == 0)
		errno = ENODATA;
	return n * (uint64_t)sysconf(_SC_PAGESIZE);
}

int shm_set_memory_limit(uint64_t beyond)
{
	struct rlimit limit;
	uint64_t size = address_space();

	if (size == 0 || getrlimit(RLIMIT_AS, &limit) == -1)
		return -1;
	if ((rlim_t)(size + beyond) != size + beyond || size + beyond > limit.rlim_max)
		return 0; /* a lower limit holds, or there is none of that size */
	limit.rlim_cur = limit.rlim_max = (rlim_t)(size + beyond);
	return setrlimit(RLIMIT_AS, &limit);
}
