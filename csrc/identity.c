#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "identity.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* Linux 4.14 */
#endif

static struct {
	uint64_t *token;     /* on a page of its own, which the kernel sets to zero in a forked process */
	uint64_t last;       /* the highest token of this process and of those that it was forked from */
	uint64_t none;       /* token points here without MADV_WIPEONFORK */
	uint32_t generation; /* the number of fork(3) calls that led here, without MADV_WIPEONFORK */
} identity = { .token = &identity.none };

static void next_generation(void)
{
	identity.generation++;
}

/* Runs when the program is loaded, before any fork. */
__attribute__((constructor)) static void prepare_identity(void)
{
	size_t length = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page != MAP_FAILED && madvise(page, length, MADV_WIPEONFORK) == 0) {
		identity.token = page;
		(void)shm_process_token();
		return;
	}
	if (page != MAP_FAILED)
		munmap(page, length);
	pthread_atfork(NULL, NULL, next_generation);
}

/* Used without MADV_WIPEONFORK. After a fork by a raw system call, only the process id differs. */
static uint64_t token_without_page(void)
{
	uint64_t generation = identity.generation;

	return generation << 32 | (uint32_t)getpid();
}

uint64_t shm_process_token(void)
{
	uint64_t token = __atomic_load_n(identity.token, __ATOMIC_SEQ_CST), next;

	if (identity.token == &identity.none)
		return token_without_page();
	if (token != 0)
		return token;
	next = __atomic_add_fetch(&identity.last, 1, __ATOMIC_SEQ_CST);
	if (__atomic_compare_exchange_n(identity.token, &token, next, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return next;
	return token; /* another thread was first */
}

const uint64_t *shm_process_token_word(void)
{
	return identity.token;
}
