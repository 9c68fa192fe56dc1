/* What a child tries in order to get out of its sandbox. */
#ifndef ESCAPE_H
#define ESCAPE_H

#include <stddef.h>

/* An attempt is a system call, or a function that makes one. */
struct escape {
	const char *what; /* in words */
	const char *call; /* the name by which a report has it */
	long number;
	long args[6];
	long (*try)(void); /* or NULL: the call */
};

/* Returns the i-th attempt, or NULL behind the last. */
const struct escape *escape_at(int i);

/* Makes the attempt whose index is the int at addr. Exits 77, unless that ends the child. */
int child_escape(void *addr, size_t length);

/* Makes all attempts that are calls, and puts the errno of the i-th, or 0, into the i-th int at addr. */
int child_escape_all(void *addr, size_t length);

/* Makes the call whose number and arguments are the seven longs at addr, puts the result there, or -errno. */
int child_call(void *addr, size_t length);

/* Writes to another view of its second page, or to that page itself, if it can have no other. */
int child_write_alias(void *addr, size_t length);
int child_write_longer(void *addr, size_t length);

/* Does what C code does that computes: malloc, stdio, libm, qsort, strings, time. Exits 0. */
int child_compute(void *addr, size_t length);

/* Has threads add up the bytes at addr. Returns the sum. */
int child_sum_by_threads(void *addr, size_t length);

#endif
