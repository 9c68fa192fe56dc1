/*
 * Which process is this? A process id does not tell: two processes in two pid
 * namespaces can both have the id 1, and a copy of this process is often there
 * while its original is.
 */
#ifndef SHM_IDENTITY_H
#define SHM_IDENTITY_H

#include <stdint.h>

/*
 * Returns a number, never 0, that differs from the numbers of all processes
 * that this one was forked from. Siblings can have the same number: neither has
 * the other's memory. Async-signal-safe.
 */
uint64_t shm_process_token(void);

/* The word that holds the token, or 0 where shm_process_token has yet to be called. */
const uint64_t *shm_process_token_word(void);

#endif
