#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pool.h"
#include "futex.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

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
	if (send(wake_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == -1 && errno != EAGAIN && errno != EINTR)
		_exit(SHM_POOL_LOST); /* the parent sees the child's end */
}

void shm_pool_child(struct shm_control *control, char *base, int wake_fd)
{
	const struct shm_request *request = &control->request;
	uint32_t last = 0, seq;

	for (;;) {
		while ((seq = __atomic_load_n(&request->seq, __ATOMIC_ACQUIRE)) == last)
			shm_futex_wait(&control->request.seq, last, -1);
		last = seq;
		__atomic_store_n(&control->reply.started_seq, seq, __ATOMIC_RELAXED);
		post_reply(control, seq, request->child(base + request->offset, request->length), wake_fd);
	}
}

static void post_request(struct shm_control *control, uint32_t seq, shm_child child, size_t offset, size_t length)
{
	struct shm_request *request = &control->request;

	request->child = child;
	request->offset = offset;
	request->length = length;
	__atomic_store_n(&request->waits, SHM_WAITS_BY_FUTEX, __ATOMIC_SEQ_CST);
	__atomic_store_n(&request->seq, seq, __ATOMIC_SEQ_CST);
	shm_futex_wake(&request->seq);
}

int shm_pool_call(struct shm_control *control, uint32_t seq, shm_child child, size_t offset, size_t length, int64_t timeout)
{
	uint32_t *reply_seq = &control->reply.seq;
	int tries;

	post_request(control, seq, child, offset, length);
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
