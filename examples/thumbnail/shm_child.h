/*
 * For the C code of a child. Include this header from a cgo file of your own;
 * nothing needs to be linked. This command copies the header to the package's
 * folder, where cgo finds it:
 *
 *	go run forkshm.example/shm/cmd/childheader
 *
 * Copies are in use. So the structs here never change, except for new members at
 * their ends.
 */
#ifndef SHM_CHILD_H
#define SHM_CHILD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The object behind a shared Memfd mapping. objectEntry in layout_linux.go is the same struct. */
struct shm_object {
	uintptr_t start, end; /* the addresses of the mapping; start is 0 while the entry is free */
	int64_t fd;           /* for fstat(2) */
	uint64_t dev, ino;    /* the file behind fd: the child may have opened another as fd */
};

enum { SHM_OBJECTS = 100 }; /* a table fits a page of 4 KiB */

/*
 * All shared Memfd mappings of the program. Only the program writes the table. A
 * child has a copy from the moment of its fork. An entry is complete, or its start
 * is 0.
 */
struct shm_objects {
	struct shm_objects *next; /* more entries, or NULL */
	struct shm_object object[SHM_OBJECTS] __attribute__((aligned(8)));
};

/* Defined in package shm. The symbol is weak, as cgo links each package alone before the program. */
extern struct shm_objects shm_objects __attribute__((weak));

/*
 * fstat(2) itself where struct stat is the kernel's: the fstat(3) of some libraries
 * is another call, which a sandbox does not allow.
 */
static inline int shm_fstat(int fd, struct stat *st)
{
#if defined(__LP64__) && defined(SYS_fstat) && (defined(_DEFAULT_SOURCE) || defined(_BSD_SOURCE) || defined(_GNU_SOURCE))
	return (int)syscall(SYS_fstat, fd, st);
#else
	return fstat(fd, st);
#endif
}

/*
 * Returns the present length, in bytes, of the object behind a shared Memfd
 * mapping. addr may be any address in the mapping. Any process that has the object
 * may have grown or shrunk it. The child can use that many bytes, but no more than
 * it has mapped: the Reserve that Map was given, or the length at the fork if that
 * is more.
 *
 * Returns 0 if addr is not in a shared Memfd mapping of the program, or if the
 * child closed the descriptor that this function uses. A child with CloseFDs keeps
 * this descriptor, which is good for fstat(2) only: the child cannot read, write or
 * resize the object by it.
 *
 * The function is async-signal-safe. To call it from a library that dlopen(3)
 * loads, link the program with -rdynamic.
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
			if (shm_fstat((int)o->fd, &st) == -1 || (uint64_t)st.st_dev != o->dev ||
			    (uint64_t)st.st_ino != o->ino)
				return 0;
			return (size_t)st.st_size;
		}
	}
	return 0;
}

/* Defined in package shm, as shm_objects is. */
extern uintptr_t shm_child_arg __attribute__((weak));

/*
 * Returns ForkConfig.Arg of the child. Returns 0 in the program itself. A child's
 * children have the same number.
 */
static inline uintptr_t shm_arg(void)
{
	return &shm_child_arg != NULL ? shm_child_arg : 0;
}

/*
 * The answer of a function that Pool.Do or Pool.DoView runs:
 *
 *	int parse(const void *in, size_t in_length, struct shm_out *out);
 *
 * The function makes the answer by shm_out_reserve alone.
 */
struct shm_out {
	char *start;
	size_t size;   /* PoolConfig.MaxOut */
	size_t length; /* of the answer; 0 at the beginning of a call */
	size_t used;   /* the largest length that the answer had in this call */
};

/*
 * Makes the answer n bytes long, and returns its first byte. Returns NULL if n is
 * more than PoolConfig.MaxOut. Then the answer stays as it was.
 *
 * The function may be called more than once in a call: to make the answer longer
 * or shorter. The answer stays where it is, with the bytes that it has. Bytes that
 * the function has not written may be those of earlier answers of the same child.
 * The memory is page-aligned. It is the answer's only until the call ends.
 */
static inline void *shm_out_reserve(struct shm_out *out, size_t n)
{
	if (n > out->size)
		return NULL;
	out->length = n;
	if (n > out->used)
		out->used = n;
	return out->start;
}

#ifdef __cplusplus
}
#endif

#endif
