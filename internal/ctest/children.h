/* What the children of tests do. Each is a shm_child; most take a number where a length would be. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include <stddef.h>

int child_exit(void *addr, size_t status);    /* exits with status */
int child_status(void *addr, size_t length);  /* exits with the int at addr */
int child_read(void *addr, size_t unused);    /* exits with the byte at addr */
int child_write(void *addr, size_t value);    /* writes one byte */
int child_swap(void *addr, size_t old_new);   /* low byte there: puts the high byte, exits 0; else exits 1 */
int child_raise(void *unused, size_t sig);    /* sends itself sig; exits 99 if it lives */
int child_signal(void *addr, size_t length);  /* the same with the int at addr */
int child_dump(void *unused, size_t sig);     /* the same, once it may dump an empty core into the working directory */
int child_pause(void *addr, size_t length);   /* stays until killed */
int child_until(void *addr, size_t length);   /* stays until the int at addr is not 0, exits with it */
int child_chain(void *addr, size_t depth);    /* adds 1 to the byte at addr, then forks depth generations of children that do the same */
int child_count(void *addr, size_t length);   /* adds 1 to the int at addr, atomically, 10 000 times */
int child_increment(void *addr, size_t len);  /* adds 1 to the int at addr */
int child_first_last(void *addr, size_t len); /* writes 1 and 2 to the first and the last byte */
int child_unmap(void *addr, size_t length);   /* unmaps its view */
int child_remap(void *addr, size_t length);   /* moves its view elsewhere and writes 7 through it */
int child_threads(void *unused, size_t n);    /* exits with its number of threads */
int child_parent(void *addr, size_t length);  /* stores getppid() in the int at addr */
int child_fresh(void *unused, size_t n);      /* exits 0 if no signal is blocked, caught or ignored, and no signal stack is set */
int child_locked(void *unused, size_t n);     /* exits 0 if no memory of its own is locked */
int child_malloc(void *unused, size_t n);     /* mallocs, writes and frees in many sizes */
int child_crash(void *unused, size_t how);     /* dies by a fault: 1 reads address 16, 2 divides by zero, 3 runs no instruction, 4 runs over its stack, 5 aborts, 6 reads what a file lacks, 7 reads what is no address */
int child_add(void *addr, size_t length);     /* returns the sum of the bytes */
int child_touch_go(void *addr, size_t length); /* reads the byte at the address that is at addr */
int child_fds(void *unused, size_t n);        /* exits with its number of open descriptors */
int child_limits(void *addr, size_t length);  /* puts its limit of descriptors, and of cpu, its nice value at addr, as longs */
int child_close_all(void *unused, size_t n);  /* closes every descriptor */
int child_sleep(void *unused, size_t ms);     /* sleeps */
int child_pid(void *addr, size_t length);     /* stores its process id in the int at addr */
int child_plugin(void *addr, size_t length);  /* loads the library whose path is at addr, and calls its function "fall" */
int child_leave(void *addr, size_t status);   /* forks a child that stays until the int at addr is not 0, and exits with status */
int child_grief(void *unused, size_t n);      /* forks a child that crashes, then sends itself the signal that ended the child */
int child_traced(void *addr, size_t length);  /* forks a child that traces it, writes that child's process id, or -errno, and stays */
int child_family(void *addr, size_t status);  /* forks a child that stays, writes that child's process id, and exits with status; if status is more than 255, stays as well */
int child_open(void *unused, size_t n);       /* exits with its number of open descriptors below 65536, asking for each */
int child_netns(void *addr, size_t length);   /* writes the name of its network namespace, as a string */
int child_stack(void *unused, size_t bytes);  /* has an array of so many bytes on its stack, and writes to its far end */
int child_clock(void *addr, size_t length);   /* stores the nanoseconds of CLOCK_MONOTONIC in the int64_t at addr */
int is_glibc(void);

int crash_here(volatile int *p); /* reads it */

void *load_function(const char *path, const char *name); /* of a library, which it keeps; NULL where that fails */
int load_library(const char *path); /* and keeps it; returns 0, or 1 where that fails */

#endif
