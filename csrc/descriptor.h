/*
 * The library's descriptors are above 2: a program can close its standard files,
 * and children inherit 0, 1 and 2, whatever these are. internal/highfd is the
 * same for Go.
 */
#ifndef SHM_DESCRIPTOR_H
#define SHM_DESCRIPTOR_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/*
 * Returns a descriptor above 2 that is as fd, and closes fd if it is another one.
 * If fd is -1, or after an error, returns -1 with errno set.
 */
static inline int shm_lift(int fd)
{
	int lifted, err;

	if (fd < 0 || fd > 2)
		return fd;
	lifted = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	err = errno;
	close(fd);
	errno = err;
	return lifted;
}

#endif
