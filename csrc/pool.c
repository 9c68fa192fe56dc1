#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pool.h"
#include "frames.h"
#include "futex.h"
#include "shm_child.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Programs have copies of shm_child.h: the header says what may change in its structs. */
_Static_assert(offsetof(struct shm_out, used) == 3 * sizeof(size_t), "a member of struct shm_out has moved");

/*
 * The order matters. The child writes the reply before it reads how the parent
 * waits. The parent writes how it waits before it checks for the reply.
 */
static void post_reply(struct shm_control *control, uint32_t seq, int32_t result, int wake_fd)
{
	__atomic_store_n(&control->reply.result, result, __ATOMIC_RELAXED);
	__atomic_store_n(&control->reply.seq, seq, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&control->request.waits, __ATOMIC_SEQ_CST) == SHM_WAITS_BY_FUTEX) {
		shm_futex_wake(&control->reply.seq);
		return;
	}
	/* send(3) is socketcall(2) on some processors, whose arguments a seccomp(2) filter cannot see. */
	if (syscall(SYS_sendto, wake_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) == -1 && errno != EAGAIN && errno != EINTR)
		_exit(SHM_POOL_LOST); /* the parent sees the child's end */
}

/* Runs the function of a request, and returns its result. */
static int32_t run(struct shm_control *control, const struct shm_pool_memory *memory)
{
	const struct shm_request *request = &control->request;
	struct shm_out out = { .start = memory->out, .size = memory->max_out };
	int32_t result;

	if (request->kind == SHM_REQUEST_CALL)
		return shm_run_child((shm_child)request->function, memory->base + request->offset, request->length);
	result = shm_run_do((shm_do)request->function, memory->in, request->length, &out);
	__atomic_store_n(&control->reply.out_length, out.length, __ATOMIC_RELAXED);
	__atomic_store_n(&control->reply.out_used, out.used, __ATOMIC_RELAXED);
	return result;
}

void shm_pool_child(struct shm_control *control, const struct shm_pool_memory *memory, int wake_fd)
{
	const struct shm_request *request = &control->request;
	uint32_t last = 0, seq;

	for (;;) {
		while ((seq = __atomic_load_n(&request->seq, __ATOMIC_ACQUIRE)) == last)
			shm_futex_wait(&control->request.seq, last, -1);
		last = seq;
		__atomic_store_n(&control->reply.started_seq, seq, __ATOMIC_RELAXED);
		post_reply(control, seq, run(control, memory), wake_fd);
	}
}

static void post_request(struct shm_control *control, uint32_t seq, const struct shm_job *job)
{
	struct shm_request *request = &control->request;

	request->kind = job->kind;
	request->function = job->function;
	request->offset = job->offset;
	request->length = job->length;
	__atomic_store_n(&request->waits, SHM_WAITS_BY_FUTEX, __ATOMIC_SEQ_CST);
	__atomic_store_n(&request->seq, seq, __ATOMIC_SEQ_CST);
	shm_futex_wake(&request->seq);
}

int shm_pool_call(struct shm_control *control, uint32_t seq, const struct shm_job *job, int64_t timeout)
{
	uint32_t *reply_seq = &control->reply.seq;
	int tries;

	post_request(control, seq, job);
	/* FUTEX_WAIT returns at once if the word has changed. A hostile child may do that all the time. */
	for (tries = 0; tries < 4; tries++) {
		uint32_t seen = __atomic_load_n(reply_seq, __ATOMIC_SEQ_CST);

		if (seen == seq)
			return 1;
		if (shm_futex_wait(reply_seq, seen, timeout) == -1 && errno == ETIMEDOUT)
			break;
	}
	return __atomic_load_n(reply_seq, __ATOMIC_SEQ_CST) == seq;
}
