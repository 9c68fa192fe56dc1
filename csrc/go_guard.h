/*
 * A forked child has one thread, and so no Go runtime: C that calls back into Go
 * there would wait for the other threads for ever, or run the parent's program
 * on. So the child ends instead, and says why.
 */
#ifndef SHM_GO_GUARD_H
#define SHM_GO_GUARD_H

#include <stdint.h>

enum { SHM_CALLED_GO = 2 }; /* the exit status, as that of a Go program that fails */

/*
 * In a child: from now on a call of an exported Go function ends it. It sets
 * *told to 1 before, or writes a line to stderr where told is NULL.
 * Async-signal-safe.
 */
void shm_refuse_go(uint32_t *told);

#endif
