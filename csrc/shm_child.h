/*
 * For the C of a child, to be included from a cgo file of your own:
 *
 *	#cgo CFLAGS: -I/path/to/the/module/csrc
 *	#include <shm_child.h>
 *
 * where `go list -m -f '{{.Dir}}' forkshm.example/shm` prints the module's path.
 * Nothing needs to be linked.
 */
#ifndef SHM_CHILD_H
#define SHM_CHILD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHM_HEADER_MAGIC UINT64_C(0x666473686d656d31)

/* Stands two pages below a shared memfd mapping. memory_linux.go writes it. */
struct shm_header {
	uint64_t magic;
	int64_t fd;
	uint64_t dev, ino; /* what fd is, should the child have closed it and opened another */
};

/*
 * How many bytes there are now behind a shared Memfd mapping that begins at
 * addr: those may be used, as far as the child has them mapped, which is to the
 * Reserve that Map was given (to the length at the fork, if that is more).
 * Async-signal-safe, and right whichever process grew or shrank the object.
 *
 * Returns 0 if the child has closed the object's descriptor. The address must be
 * that of a shared Memfd mapping as Map, MapFile or a Resize of it put it
 * there; MoveTo leaves the header behind.
 */
static inline size_t shm_object_length(const void *addr)
{
	const struct shm_header *h = (const void *)((const char *)addr - 2 * sysconf(_SC_PAGESIZE));
	struct stat st;

	if (h->magic != SHM_HEADER_MAGIC || fstat((int)h->fd, &st) == -1)
		return 0;
	if ((uint64_t)st.st_dev != h->dev || (uint64_t)st.st_ino != h->ino)
		return 0;
	return (size_t)st.st_size;
}

#endif
