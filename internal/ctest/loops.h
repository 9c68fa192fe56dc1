/* The C side of benchmarks, and what tests do to their own process. All return 0 or an errno value. */
#ifndef LOOPS_H
#define LOOPS_H

#include <stddef.h>
#include <stdint.h>

int loop_map(long n, int dev_zero, int flags, size_t length);
int loop_fork(long n);
int loop_ping_pong(long n); /* wakes a child by a futex, and is woken by it */
int loop_grow(long n, size_t first, size_t last);
void copy_memory(void *dst, const void *src, size_t length);

/*
 * Sends SIGUSR2 to the thread tid, or to the whole process group if tid is 0, all
 * the time. Its handler stores 1 in *astray if it runs in another process than
 * this, which may be shared with a child. A thread's calls are interrupted by it.
 */
int interrupt_start(int tid, int *astray);
void interrupt_stop(void);
void ignore_children(int yes);
int64_t clock_now(void); /* CLOCK_MONOTONIC, in nanoseconds */
int at_exit_store(int *ran); /* has exit(3), in another process than this, store 1 there */

#endif
