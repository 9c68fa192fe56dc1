/*
 * futex(2), which no libc wraps. The operations are named here, as the kernel's
 * own header is not where every libc's compiler looks: musl-gcc has none.
 */
#ifndef SHM_FUTEX_H
#define SHM_FUTEX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SHM_FUTEX_WAIT = 0, SHM_FUTEX_WAKE = 1 };

/*
 * Waits while *word is value, timeout nanoseconds at most; a negative timeout
 * has no bound. Returns what the call does: 0, or -1 with errno set.
 */
static inline long shm_futex_wait(uint32_t *word, uint32_t value, int64_t timeout)
{
	/* The call takes the kernel's time, which libc's struct timespec is not where time_t has outgrown long. */
	const long limit[2] = { (long)(timeout / 1000000000), (long)(timeout % 1000000000) };

	return syscall(SYS_futex, word, SHM_FUTEX_WAIT, value, timeout < 0 ? NULL : limit, NULL, 0);
}

/* Wakes one who waits. */
static inline void shm_futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, SHM_FUTEX_WAKE, 1, NULL, NULL, 0);
}

#endif
