/*
 * For the C of a child, to be included from a cgo file of your own. The README
 * says how the compiler finds it. Nothing needs to be linked.
 */
#ifndef SHM_CHILD_H
#define SHM_CHILD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The object behind a shared Memfd mapping. object_linux.go has the same struct. */
struct shm_object {
	uintptr_t start, end; /* where it is mapped; 0 while the entry is free */
	int64_t fd;           /* for fstat(2) */
	uint64_t dev, ino;    /* what fd is, should the child have closed it and opened another */
};

enum { SHM_OBJECTS = 100 }; /* in a page of 4 KiB */

/*
 * All that the program has mapped. The program alone writes it, and a child has
 * its own copy, as of its fork. An entry is complete, or its start is 0.
 */
struct shm_objects {
	struct shm_objects *next; /* more of them, or NULL */
	struct shm_object object[SHM_OBJECTS];
};

/* In package shm. Weak, as cgo links each package for itself before the program. */
extern struct shm_objects shm_objects __attribute__((weak));

/*
 * How many bytes there are now behind the shared Memfd mapping that addr lies
 * in: those may be used, as far as the child has them mapped, which is to the
 * Reserve that Map was given (to the length at the fork, if that is more).
 * Async-signal-safe, and right whichever process grew or shrank the object.
 *
 * The address may be any one of the mapping. The length is known in children
 * with CloseFDs too: they keep a descriptor by which fstat(2) works and nothing
 * can be read, written or resized.
 *
 * Returns 0 if addr is not in a shared Memfd mapping of the program, or if the
 * child closed that descriptor. A library that is loaded by dlopen(3) needs a
 * program that is linked with -rdynamic.
 */
static inline size_t shm_object_length(const void *addr)
{
	const struct shm_objects *table;
	const struct shm_object *o;
	struct stat st;

	for (table = &shm_objects; table != NULL; table = table->next) {
		for (o = table->object; o < table->object + SHM_OBJECTS; o++) {
			if (o->start == 0 || (uintptr_t)addr < o->start || (uintptr_t)addr >= o->end)
				continue;
			if (fstat((int)o->fd, &st) == -1 || (uint64_t)st.st_dev != o->dev || (uint64_t)st.st_ino != o->ino)
				return 0;
			return (size_t)st.st_size;
		}
	}
	return 0;
}

#ifdef __cplusplus
}
#endif

#endif
