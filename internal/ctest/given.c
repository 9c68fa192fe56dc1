#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "given.h"
#include "../../csrc/shm_child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int child_say(void *addr, size_t length)
{
	(void)addr;
	(void)length;
	printf("out %zu\n", (size_t)shm_arg());
	fflush(stdout);
	fprintf(stderr, "err %zu\n", (size_t)shm_arg());
	return 0;
}

int child_cat(void *addr, size_t length)
{
	char bytes[4096];
	ssize_t n;

	(void)addr;
	(void)length;
	while ((n = read(STDIN_FILENO, bytes, sizeof(bytes))) > 0)
		if (write(STDOUT_FILENO, bytes, (size_t)n) != n)
			return 1;
	return n == 0 ? 0 : 2;
}

int child_where(void *addr, size_t length)
{
	char path[4096];

	(void)addr;
	(void)length;
	if (getcwd(path, sizeof(path)) == NULL)
		return 1;
	puts(path);
	return fflush(stdout);
}

int child_arg(void *addr, size_t length)
{
	(void)addr;
	(void)length;
	return (int)shm_arg();
}

int shm_arg_here(void)
{
	return (int)shm_arg();
}

int child_take(void *addr, size_t bytes)
{
	(void)addr;
	if (mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		return errno;
	return 0;
}

int child_leaver(void *addr, size_t length)
{
	int *stop = addr;

	(void)length;
	if (write(STDOUT_FILENO, "before\n", strlen("before\n")) == -1)
		return 1;
	if (fork() != 0)
		return 0;
	setsid();
	while (__atomic_load_n(stop, __ATOMIC_ACQUIRE) == 0)
		usleep(1000);
	_exit(0);
}

int child_flood(void *addr, size_t bytes)
{
	static char x[1 << 16];

	(void)addr;
	memset(x, 'x', sizeof(x));
	while (bytes > 0) {
		ssize_t n = write(STDOUT_FILENO, x, bytes < sizeof(x) ? bytes : sizeof(x));

		if (n <= 0)
			return 1;
		bytes -= (size_t)n;
	}
	return 0;
}

int child_open_file(void *addr, size_t length)
{
	(void)addr;
	(void)length;
	return open("/proc/self/maps", O_RDONLY | O_CLOEXEC) == -1;
}

/* lseek(2) is allowed in a sandbox. */
int child_standard(void *addr, size_t length)
{
	int fd, are_open = 0;

	(void)addr;
	(void)length;
	for (fd = 0; fd < 3; fd++)
		if (lseek(fd, 0, SEEK_CUR) != -1 || errno != EBADF)
			are_open |= 1 << fd;
	return are_open;
}
