//go:build linux && cgo

package live

/*
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
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

// The child has one thread, the leader of its process. Goroutines may run on it
// that lock the thread and end, which ends the thread. Without its leader the
// process would lose /proc/self/fd and the like. Go's first thread stays for
// ever in that case, and this thread does so by live_stay.
static pthread_key_t live_leader;
static pthread_once_t live_once = PTHREAD_ONCE_INIT;

static void live_stay(void *arg)
{
	sigset_t all;

	(void)arg;
	if (syscall(SYS_gettid) != getpid())
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (;;)
		pause();
}

static void live_make_key(void) { (void)pthread_key_create(&live_leader, live_stay); }

// The runtime calls live_fork on the thread's own stack, with Go's world
// stopped. The fork is glibc's and not a bare clone, so that malloc and
// pthread_create work in the child. Signals are blocked, because a signal would
// make the kernel begin the copy again. They stay blocked in the child until the
// runtime there can handle them.
static void live_fork(void *arg)
{
	struct live_call *c = arg;
	sigset_t all, saved;
	int64_t start;

	pthread_once(&live_once, live_make_key);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	start = live_now();
	c->pid = fork();
	c->errnum = c->pid == -1 ? errno : 0;
	c->held = live_now() - start;
	if (c->pid == 0) {
		memcpy(&c->mask, &saved, sizeof(c->mask));
		(void)pthread_setspecific(live_leader, c); // anything but NULL
	} else
		pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

static void *live_fork_address(void) { return (void *)live_fork; }
*/
import "C"

import "unsafe"

type pointer = unsafe.Pointer

var forkInC = C.live_fork_address()

var errNoCgo error // there is cgo
