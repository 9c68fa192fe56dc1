#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fork_server.h"
#include "descriptor.h"
#include "frames.h"
#include "futex.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40 /* Linux 3.5, with CONFIG_CHECKPOINT_RESTORE */
#endif

struct request {
	uint32_t seq;
	struct shm_fork_args args;
};

struct answer {
	uint32_t seq;
	int32_t err; /* 0 from a child; from the server the errno value of clone(2) */
};

enum { MAX_FDS = 6 }; /* of a request */

/*
 * Lists where the descriptors of a request stand, in their order: that of the
 * control page, then those that args names. Returns how many there are.
 */
static size_t list_fds(struct shm_fork_args *a, int *control_fd, int *places[MAX_FDS])
{
	size_t n = 0;
	int i;

	if (shm_needs_control(a))
		places[n++] = control_fd;
	if (a->flags & SHM_SERVE)
		places[n++] = &a->wake_fd;
	for (i = 0; i < 3; i++)
		if (a->files[i] != 0)
			places[n++] = &a->files[i];
	if (a->dir_fd != 0)
		places[n++] = &a->dir_fd;
	return n;
}

/* The head of a thread's list of robust mutexes, as the kernel has it: struct robust_list_head. */
struct robust_head {
	void *list; /* the head itself while the list is empty */
	long offset;
	void *pending;
};

/* In the server. */
static struct {
	int fd;
	pid_t *tid; /* the word that holds libc's thread id */
	struct robust_head *robust;
	size_t robust_length;
	int dumpable;
	struct shm_control *control;
	struct request request;
	struct shm_start start;
} server;

static int find_tid(void)
{
	if (prctl(PR_GET_TID_ADDRESS, &server.tid, 0, 0, 0) == -1)
		return -1;
	if (server.tid != NULL && *server.tid == (pid_t)syscall(SYS_gettid))
		return 0;
	errno = ENOTSUP; /* musl has another word there */
	return -1;
}

static enum shm_set_up_call check_system(void)
{
	if (getpid() == 1) { /* the init of a pid namespace has no siblings */
		errno = EINVAL;
		return SHM_CALL_CLONE_PARENT;
	}
	if (find_tid() == -1)
		return SHM_CALL_TID_ADDRESS;
	if (syscall(SYS_get_robust_list, 0, &server.robust, &server.robust_length) == -1)
		return SHM_CALL_ROBUST_LIST;
	return SHM_CALL_NONE;
}

/* Returns the number of threads of this process, or -1. The directory has a link for each, and two more. */
static int32_t count_threads(void)
{
	struct stat st;

	return stat("/proc/self/task", &st) == -1 ? -1 : (int32_t)st.st_nlink - 2;
}

/* The kernel lets a process with one thread do this without effect. Without /proc it is the way to know. */
static int has_one_thread(int32_t *threads)
{
	*threads = count_threads();
	return *threads == 1 || (*threads < 1 && syscall(SYS_unshare, CLONE_THREAD) == 0);
}

static enum shm_set_up_call check_process(int32_t *threads)
{
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };
	int tries;

	/* A thread that was joined is counted for a moment longer. */
	for (tries = 0; !has_one_thread(threads); tries++) {
		if (tries == 200) {
			errno = EBUSY;
			return SHM_CALL_THREADS;
		}
		nanosleep(&pause, NULL);
	}
	if (server.robust != NULL && server.robust->list != server.robust) {
		errno = EBUSY;
		return SHM_CALL_ROBUST_MUTEX;
	}
	return SHM_CALL_NONE;
}

static void *end_at_once(void *arg)
{
	return arg;
}

/*
 * glibc keeps the stacks of threads that are gone, as in a forked process those of
 * all its parent's threads. Each makes every clone of the server some microseconds
 * longer. When a thread ends, glibc unmaps what it keeps beyond 40 MiB, so that a
 * thread with a larger stack leaves none. If this fails, the stacks stay.
 */
static void free_stacks(void)
{
	const size_t size = 64 << 20; /* of addresses */
	pthread_attr_t attr;
	pthread_t thread;

	if (pthread_attr_init(&attr) != 0)
		return;
	if (pthread_attr_setstacksize(&attr, size) == 0 && pthread_create(&thread, &attr, end_at_once, NULL) == 0)
		pthread_join(thread, NULL);
	pthread_attr_destroy(&attr);
}

enum shm_set_up_call shm_server_set_up(const struct shm_start *s, struct shm_set_up *result)
{
	enum shm_set_up_call failed = check_system();

	if (failed == SHM_CALL_NONE)
		failed = shm_set_up(s, result);
	if (failed != SHM_CALL_NONE)
		return failed;
	free_stacks();
	return check_process(&result->which);
}

/* Lifts descriptors, and returns how many of them are left: all, or the first ones. */
static int lift_all(int fds[MAX_FDS], int count)
{
	int i, lifted = 0;

	for (i = 0; i < count; i++) {
		fds[i] = shm_lift(fds[i]);
		if (fds[i] == -1)
			continue; /* the server has as many as it may have */
		fds[lifted++] = fds[i];
	}
	return lifted;
}

/* Receives a request with its descriptors. Returns how many there are, or -1 at the end of the parent. */
static int receive(struct request *r, int fds[MAX_FDS])
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	struct iovec iov = { r, sizeof(*r) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	size_t length;
	ssize_t n;

	do {
		n = recvmsg(server.fd, &msg, MSG_CMSG_CLOEXEC);
	} while (n == -1 && errno == EINTR);
	if (n != (ssize_t)sizeof(*r))
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return 0;
	length = c->cmsg_len - CMSG_LEN(0);
	memcpy(fds, CMSG_DATA(c), length);
	return lift_all(fds, (int)(length / sizeof(int)));
}

static void send_answer(uint32_t seq, int err)
{
	const struct answer a = { seq, err };

	if (send(server.fd, &a, sizeof(a), MSG_NOSIGNAL) == -1)
		_exit(127); /* the parent is gone */
}

/* The child begins here. */
static void begin(void (*start)(void *arg), const int fds[MAX_FDS])
{
	struct request *r = &server.request;
	int control_fd = -1, *places[MAX_FDS];
	size_t i, count;

	syscall(SYS_set_robust_list, server.robust, server.robust_length);
	send_answer(r->seq, 0);
	close(server.fd);
	if (server.dumpable == 1)
		prctl(PR_SET_DUMPABLE, 1);
	count = list_fds(&r->args, &control_fd, places);
	for (i = 0; i < count; i++)
		*places[i] = fds[i];
	r->args.control = NULL;
	if (shm_needs_control(&r->args)) {
		if (shm_control_map(control_fd, r->args.slot, &r->args.control) != 0)
			_exit(127);
		close(control_fd);
	}
	server.start.args = &r->args;
	start(&server.start);
	_exit(127);
}

int shm_server_run_function(struct shm_control *control, void *addr)
{
	struct shm_request *request = &control->request;

	while (__atomic_load_n(&request->seq, __ATOMIC_ACQUIRE) == 0)
		shm_futex_wait(&request->seq, 0, -1);
	return shm_run_child((shm_child)request->function, addr, request->length);
}

void shm_server_give_function(struct shm_control *control, shm_child child, size_t length)
{
	struct shm_request *request = &control->request;

	request->function = (void (*)(void))child;
	request->length = length;
	__atomic_store_n(&request->seq, 1, __ATOMIC_RELEASE);
	shm_futex_wake(&request->seq);
}

/*
 * CLONE_PARENT: a child of the server's parent. The two others are what libc's
 * fork has: the kernel writes the child's thread id to where libc has it. The
 * order of the arguments depends on the architecture. The word's address is
 * passed in both places, as the other one is not used without CLONE_SETTLS.
 */
static pid_t clone_sibling(void)
{
	const unsigned long flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;

#if defined(__s390__)
	return (pid_t)syscall(SYS_clone, NULL, flags, NULL, server.tid, server.tid);
#else
	return (pid_t)syscall(SYS_clone, flags, NULL, NULL, server.tid, server.tid);
#endif
}

/* Tells the parent of a child that is killed before it can answer. */
static void note_child(uint32_t seq, pid_t pid)
{
	struct shm_control *control = server.control;

	__atomic_store_n(&control->reply.result, pid, __ATOMIC_RELAXED);
	__atomic_store_n(&control->reply.seq, seq, __ATOMIC_RELEASE);
}

static void serve_request(struct request *r, const int fds[MAX_FDS], size_t count, void (*start)(void *arg))
{
	int control_fd, *places[MAX_FDS];
	pid_t pid;

	if (list_fds(&r->args, &control_fd, places) != count) { /* the server has as many as it may have */
		send_answer(r->seq, EMFILE);
		return;
	}
	pid = clone_sibling();
	if (pid == 0)
		begin(start, fds);
	if (pid == -1)
		send_answer(r->seq, errno);
	else
		note_child(r->seq, pid);
}

static void be_unreachable(const struct shm_start *s)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &server.start.mask);
	shm_each_group_signal(sigdelset, &server.start.mask);
	server.dumpable = prctl(PR_GET_DUMPABLE);
	if (server.dumpable == 1)
		prctl(PR_SET_DUMPABLE, 0);
	server.control = s->args->control;
	shm_control_hide(server.control, 0);
}

void shm_server_run(const struct shm_start *s, void (*start)(void *arg))
{
	int fds[MAX_FDS], count;

	server.fd = s->args->wake_fd;
	server.start.parent = s->parent;
	server.start.sandbox = s->sandbox;
	be_unreachable(s);
	while ((count = receive(&server.request, fds)) >= 0) {
		serve_request(&server.request, fds, (size_t)count, start);
		while (count > 0)
			close(fds[--count]);
	}
	_exit(0);
}

static int send_request(int fd, const struct request *r, const int *fds, size_t count)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { (void *)r, sizeof(*r) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count > 0) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 ? errno : 0;
}

int shm_server_ask(int fd, uint32_t seq, struct shm_fork_args *args)
{
	struct request r = { .seq = seq, .args = *args };
	int fds[MAX_FDS], object = -1, *places[MAX_FDS], err;
	size_t i, count = list_fds(args, &object, places);

	args->control = NULL;
	if (shm_needs_control(args)) {
		args->call = "memfd_create";
		err = shm_control_make_object(&object, args->slot, &args->control);
		if (err != 0)
			return err;
		shm_control_hide(args->control, args->slot);
	}
	for (i = 0; i < count; i++)
		fds[i] = *places[i];
	args->call = "sendmsg";
	err = send_request(fd, &r, fds, count);
	if (object != -1)
		close(object);
	if (err != 0) {
		shm_control_free(args->control, args->slot);
		args->control = NULL;
	}
	return err;
}

/* Receives an answer and its sender. Returns 0 or an errno value. */
static int receive_answer(int fd, struct answer *a, pid_t *sender)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = { a, sizeof(*a) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	struct ucred from;
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return n == 0 || errno == ECONNRESET ? EPIPE : errno;
	c = CMSG_FIRSTHDR(&msg);
	if (n != (ssize_t)sizeof(*a) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || c == NULL ||
	    c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS || c->cmsg_len != CMSG_LEN(sizeof(from)))
		return EPROTO;
	memcpy(&from, CMSG_DATA(c), sizeof(from));
	*sender = from.pid;
	return 0;
}

static int wait_readable(int fd, int64_t timeout)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	const struct timespec limit = { .tv_sec = (time_t)(timeout / 1000000000), .tv_nsec = (long)(timeout % 1000000000) };

	return ppoll(&p, 1, &limit, NULL);
}

int shm_server_answer(int fd, uint32_t seq, pid_t server_pid, int64_t timeout, pid_t *pid, int *err)
{
	struct answer a = { 0 };
	pid_t sender = 0;
	int failed;

	if (timeout > 0)
		wait_readable(fd, timeout);
	failed = receive_answer(fd, &a, &sender);
	if (failed != 0)
		return failed == EINTR ? EAGAIN : failed;
	/* A child says who it is, and the server that it has none. */
	if (a.seq != seq || sender <= 0 || sender == getpid() || a.err < 0 || a.err > 4095 || (a.err != 0) != (sender == server_pid))
		return EPROTO;
	*pid = sender;
	*err = a.err;
	return 0;
}
