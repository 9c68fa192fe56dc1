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

#ifdef SYS_timer_settime64
#define LIVE_TIMER_SETTIME SYS_timer_settime64
#else
#define LIVE_TIMER_SETTIME SYS_timer_settime
#endif

struct live_call {
	int32_t pid;
	int32_t errnum;
	int64_t held;
	uint64_t mask; // as the kernel has a sigset_t
	int64_t limit; // nanoseconds that a child has to begin, 0 for any
	int32_t timers[2];
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

// live_arm has the kernel end a child that does not begin: by SIGQUIT, at which Go prints its
// goroutines, and by SIGKILL ten seconds later. Timers are not inherited by the child's children. A
// timer that the kernel refuses is none.
static void live_arm(struct live_call *c)
{
	static const int signals[2] = {SIGQUIT, SIGKILL};
	struct { int64_t every[2], first[2]; } time = {{0, 0}, {0, 0}};

	for (int i = 0; i < 2; i++) {
		struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signals[i]};
		int64_t limit = c->limit + i * INT64_C(10000000000);

		c->timers[i] = -1;
		if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &c->timers[i]) == -1)
			continue;
		time.first[0] = limit / 1000000000;
		time.first[1] = limit % 1000000000;
		(void)syscall(LIVE_TIMER_SETTIME, c->timers[i], 0, &time, NULL);
	}
}

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
		if (c->limit > 0)
			live_arm(c);
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
