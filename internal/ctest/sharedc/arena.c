#include "arena.h"
#include "../../../csrc/shm_child.h"
#include "../../../shared/csrc/arena.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

static shm_arena *arena_of(struct arena_site *s)
{
	return (shm_arena *)(void *)((char *)s + ARENA_OFFSET);
}

static int all_are(const unsigned char *bytes, size_t size, unsigned char b)
{
	return size == 0 || (bytes[0] == b && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static int alloc(struct arena_site *s, uint32_t i, uint32_t size)
{
	uint64_t off;
	unsigned char *p;

	s->size[i] = size;
	off = shm_alloc(arena_of(s), size, &s->ref[i]);
	if (off == 0)
		return errno;
	p = shm_at(arena_of(s), off);
	if (off != s->ref[i] || !all_are(p, size, 0))
		return -1;
	memset(p, (int)i + 1, size);
	return 0;
}

static int release(struct arena_site *s, uint32_t i)
{
	const unsigned char *p = shm_at(arena_of(s), s->ref[i]);

	if (p != NULL && !all_are(p, s->size[i], (unsigned char)(i + 1)))
		return -1;
	return shm_free(arena_of(s), &s->ref[i]);
}

static int at_random(struct arena_site *s, uint32_t first, uint32_t rounds)
{
	uint64_t state = first * 2654435761u + (uint64_t)getpid();
	int err = 0;

	for (; rounds > 0 && (err == 0 || err == ENOMEM); rounds--) {
		uint32_t i, size;

		state = state * 6364136223846793005u + 1442695040888963407u;
		i = first + (uint32_t)(state >> 33) % 100;
		size = (uint32_t)(state >> 40) % 8 == 0 ? (uint32_t)(state >> 45) % 9000 : (uint32_t)(state >> 45) % 200;
		err = s->ref[i] == 0 ? alloc(s, i, size) : release(s, i);
	}
	return err == ENOMEM ? 0 : err;
}

static int do_act(struct arena_site *s, const struct arena_act *act)
{
	switch (act->op) {
	case ARENA_ALLOC:
		return alloc(s, act->i, act->size);
	case ARENA_FREE:
		return release(s, act->i);
	case ARENA_RANDOM:
		return at_random(s, act->i, act->size);
	case ARENA_TAKE:
		return shm_alloc(arena_of(s), act->size, &s->ref[act->i]) == 0 ? errno : 0;
	case ARENA_GIVE:
		return shm_free(arena_of(s), &s->ref[act->i]);
	case ARENA_LOCK:
		return shm_lock((shm_mutex *)(void *)((char *)s + ARENA_LOCK_OFFSET), NULL);
	case ARENA_TRACE:
		return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 ? errno : 0;
	case ARENA_STOP:
		return raise(SIGSTOP);
	default:
		for (;;)
			pause();
	}
}

int child_arena_acts(void *addr, size_t length)
{
	struct arena_site *s = addr;
	uint32_t i;

	(void)length;
	for (i = (uint32_t)shm_arg(); i < ARENA_ACTS && s->act[i].op != ARENA_END; i++) {
		s->act[i].result = do_act(s, &s->act[i]);
		__atomic_store_n(&s->done, i + 1, __ATOMIC_SEQ_CST);
	}
	return 0;
}

int loop_arena(shm_arena *a, size_t size, uint64_t *to, long n)
{
	for (; n > 0; n--) {
		int err;

		if (shm_alloc(a, size, to) == 0)
			return errno;
		err = shm_free(a, to);
		if (err != 0)
			return err;
	}
	return 0;
}

int loop_malloc(size_t size, long n)
{
	for (; n > 0; n--) {
		void *volatile p = malloc(size);

		if (p == NULL)
			return ENOMEM;
		free(p);
	}
	return 0;
}

void arena_class(uint32_t class, uint64_t c[4])
{
	struct shm_arena_class a = shm_arena_class(class);

	c[0] = a.units;
	c[1] = a.blocks;
	c[2] = a.first;
	c[3] = a.size;
}

uint32_t arena_class_for(uint64_t size)
{
	return shm_arena_class_for(size);
}
