#include "gate.h"

#include <fcntl.h>
#include <unistd.h>

int gate_answer(void *addr, size_t length)
{
	struct gate_pair *p = addr;
	const struct timespec minute = { 60, 0 };
	uint32_t i;

	(void)length;
	for (i = 1; i <= p->rounds; i++) {
		struct shm_deadline end = shm_deadline_of(&minute);

		for (;;) {
			uint32_t seq = shm_gate_enter(&p->request);

			if (__atomic_load_n(&p->asked, __ATOMIC_SEQ_CST) >= i)
				break;
			if (shm_gate_sleep(&p->request, seq, &end) != 0)
				return 1;
		}
		__atomic_store_n(&p->answered, i, __ATOMIC_SEQ_CST);
		shm_gate_wake(&p->reply);
	}
	return 0;
}

int gate_misuse(void *addr, size_t length)
{
	static const uint64_t most = UINT64_MAX - 1;
	const uint32_t *stop = addr;
	uint32_t *done = (uint32_t *)addr + 1;
	int fd, flags;

	(void)length;
	for (fd = 3; fd < 256; fd++) {
		flags = fcntl(fd, F_GETFL);
		if (flags == -1)
			continue;
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
		if (write(fd, &most, sizeof(most)) == sizeof(most))
			while (write(fd, &most, 1) == 1)
				;
		fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	}
	__atomic_store_n(done, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(stop, __ATOMIC_SEQ_CST) == 0) {
		struct shm_gate gate = { .sleepers = SHM_SLEEPS_BY_BELL };

		shm_gate_wake(&gate);
	}
	return 0;
}
