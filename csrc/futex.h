/*
 * futex(2). No libc has a function for it. The operations are declared here,
 * because musl-gcc does not find the kernel's own header.
 */
#ifndef SHM_FUTEX_H
#define SHM_FUTEX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	SHM_FUTEX_WAIT = 0,
	SHM_FUTEX_WAKE = 1,
};

/*
 * Waits while *word is value, for timeout nanoseconds at most. A negative timeout
 * means no limit. Returns 0, or -1 with errno set.
 */
static inline long shm_futex_wait(uint32_t *word, uint32_t value, int64_t timeout)
{
	/* The call takes two longs. libc's struct timespec differs where time_t is larger than long. */
	const long limit[2] = { (long)(timeout / 1000000000), (long)(timeout % 1000000000) };

	return syscall(SYS_futex, word, SHM_FUTEX_WAIT, value, timeout < 0 ? NULL : limit, NULL, 0);
}

/* Wakes one thread that waits. */
static inline void shm_futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, SHM_FUTEX_WAKE, 1, NULL, NULL, 0);
}

#endif
