/*
 * A forked child has one thread, and therefore no Go runtime. If its C called
 * back into Go, it would wait for other threads for ever, or continue the
 * parent's program. So the child ends instead, and reports the reason.
 */
#ifndef SHM_GO_GUARD_H
#define SHM_GO_GUARD_H

#include <stdint.h>

enum { SHM_CALLED_GO = 2 }; /* the exit status, the same as that of a Go program that panics */

/*
 * In a child: makes a call of an exported Go function end the child. Before the
 * end, *flag is set to 1. If flag is NULL, a line is written to stderr instead.
 * Async-signal-safe.
 */
void shm_refuse_go(uint32_t *flag);

#endif
