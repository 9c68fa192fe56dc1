//go:build linux && cgo

package live

/*
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct live_call {
	int32_t pid;
	int32_t errnum;
	int64_t held;
	uint64_t mask; // as the kernel has a sigset_t
};

static int64_t live_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// Called on the thread's own stack, with Go's world stopped. glibc's fork, not a bare clone: malloc and
// pthread_create work in the child. A signal would make the kernel start the copy again; and in the child
// Go cannot handle one before it is made whole, so there they stay blocked.
static void live_fork(void *arg)
{
	struct live_call *c = arg;
	sigset_t all, saved;
	int64_t start;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	start = live_now();
	c->pid = fork();
	c->errnum = c->pid == -1 ? errno : 0;
	c->held = live_now() - start;
	if (c->pid == 0)
		memcpy(&c->mask, &saved, sizeof(c->mask));
	else
		pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

static void *live_fork_address(void) { return (void *)live_fork; }
*/
import "C"

import "unsafe"

type pointer = unsafe.Pointer

var forkInC = C.live_fork_address()

var errNoCgo error // there is cgo
