/*
 * A child that was taken over: it writes to its control page (csrc/control.h)
 * and misuses its descriptors, as the order in the mapping says.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stddef.h>
#include <stdint.h>

enum hostile_act {
	HOSTILE_NOTHING,
	HOSTILE_FILL,       /* fills length bytes at offset of the control page with value, 4 bytes at a time */
	HOSTILE_RANDOM,     /* writes random bytes there, value being the seed */
	HOSTILE_COPY,       /* copies length bytes of what is behind the order there */
	HOSTILE_FLOOD,      /* writes to its sockets until they are full */
	HOSTILE_SHUT,       /* shuts its sockets down, and closes them */
	HOSTILE_BLOCK,      /* clears O_NONBLOCK of all its descriptors, and drains them */
	HOSTILE_OVERRUN,    /* writes to all bytes from the control page on, past its end; length 0, to those before it; value says how far it came */
	HOSTILE_LATER,      /* leaves a thread that writes the byte value to length bytes there without end, during later calls too */
	HOSTILE_GRANDCHILD, /* forks a child out of its group that writes random bytes there until stop is not 0 */
};

enum hostile_end {
	HOSTILE_RETURN, /* 7 */
	HOSTILE_PAUSE,
	HOSTILE_ABORT,
	HOSTILE_FAULT, /* sends itself SIGSEGV, with the crash report's handler removed */
	HOSTILE_EXIT,  /* with status 0 */
	HOSTILE_REPEAT, /* does it for ever */
};

struct hostile {
	uint32_t act, end;
	uint32_t offset, length, value;
	uint32_t pages; /* out: how many pages it shares with others, beside this mapping */
	uint32_t stop;
	uint32_t begun; /* out: 1 once it did it */
};

int child_hostile(void *addr, size_t length);

/* Maps again what is beside its control page. Returns whether the set-up report is there, or 99. */
int child_reach_report(void *addr, size_t length);

#endif
