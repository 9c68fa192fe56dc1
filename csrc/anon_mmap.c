/*
 * The C program that a Go program is compared with. It does the same as Listing
 * 49-3 of The Linux Programming Interface, in our own words. A child changes an
 * int in a shared anonymous mapping. The parent waits for the child, and sees the
 * change.
 *
 * USE_MAP_ANON chooses the technique, as in the book. Two things differ from the
 * book, because a Go program needs them: the descriptor is close-on-exec, and the
 * parent waits for the child's process id. wait(2) would reap any child.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *call)
{
	fprintf(stderr, "anon_mmap: %s: %s\n", call, strerror(errno));
	exit(EXIT_FAILURE);
}

int main(void)
{
	int *addr; /* the shared int */
	pid_t child;
	int status; /* not checked, as in the book */

#ifdef USE_MAP_ANON
	addr = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (addr == MAP_FAILED)
		fail("mmap");
#else
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);

	if (fd == -1)
		fail("open");
	addr = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED)
		fail("mmap");
	if (close(fd) == -1)
		fail("close");
#endif
	*addr = 1;

	switch (child = fork()) {
	case -1:
		fail("fork");
	case 0:
		printf("Child started, value = %d\n", *addr);
		(*addr)++;
		if (munmap(addr, sizeof(int)) == -1)
			fail("munmap");
		exit(EXIT_SUCCESS);
	}
	if (waitpid(child, &status, 0) == -1)
		fail("waitpid");
	printf("In parent, value = %d\n", *addr);
	if (munmap(addr, sizeof(int)) == -1)
		fail("munmap");
	exit(EXIT_SUCCESS);
}
