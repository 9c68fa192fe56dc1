/* What children of tests do with memory that grows and is controlled. */
#ifndef OBJECT_H
#define OBJECT_H

#include <stddef.h>
#include <stdint.h>

struct follow {
	uint64_t last;  /* how long the object will be */
	uint64_t pages; /* how many pages the children have written to */
};

int child_object(void *addr, size_t length); /* stores shm_object_length at addr */
int child_follow(void *addr, size_t length); /* adds to every page from the second on, as soon as it is there */
int child_last(void *addr, size_t length);   /* exits with the last byte */
int child_under(void *addr, size_t length);  /* reads the byte before the first */
int child_over(void *addr, size_t length);   /* reads the byte behind the last page */
int child_store(void *addr, size_t length);  /* writes the last byte */

#endif
