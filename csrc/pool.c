#include "pool.h"
#include "futex.h"

#include <errno.h>
#include <unistd.h>

static void answer(struct shm_mailbox *box, uint32_t call, int32_t result)
{
	const uint64_t one = 1;

	box->result = result;
	__atomic_store_n(&box->answered, call, __ATOMIC_SEQ_CST);
	switch (__atomic_exchange_n(&box->asleep, 0, __ATOMIC_SEQ_CST)) {
	case 1:
		shm_futex_wake(&box->answered);
		break;
	case 2:
		if (write(box->done_fd, &one, sizeof(one)) != sizeof(one))
			_exit(SHM_POOL_LOST); /* its end tells the parent */
	}
}

int shm_serve(void *addr, size_t length)
{
	struct shm_mailbox *box = addr;
	uint32_t last = 0, call;

	(void)length;
	for (;;) {
		while ((call = __atomic_load_n(&box->asked, __ATOMIC_ACQUIRE)) == last)
			shm_futex_wait(&box->asked, last, -1);
		last = call;
		__atomic_store_n(&box->begun, call, __ATOMIC_RELAXED);
		answer(box, call, box->child((char *)box->base + box->offset, box->length));
	}
}

static int is_answered(const struct shm_mailbox *box)
{
	return __atomic_load_n(&box->answered, __ATOMIC_SEQ_CST) == box->asked;
}

int shm_ask(struct shm_mailbox *box, shm_child child, size_t offset, size_t length, int64_t patience)
{
	box->child = child;
	box->offset = offset;
	box->length = length;
	__atomic_store_n(&box->asleep, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&box->asked, box->asked + 1, __ATOMIC_SEQ_CST);
	shm_futex_wake(&box->asked);
	while (!is_answered(box)) {
		uint32_t seen = box->asked - 1;

		if (shm_futex_wait(&box->answered, seen, patience) == -1 && errno == ETIMEDOUT)
			return is_answered(box);
	}
	return 1;
}

int shm_answered(struct shm_mailbox *box)
{
	__atomic_store_n(&box->asleep, 2, __ATOMIC_SEQ_CST);
	return is_answered(box);
}
