/*
 * Which process is this? A process id is not enough to know: a process and its
 * copy exist at the same time, and in two pid namespaces both can have the id 1.
 */
#ifndef SHM_IDENTITY_H
#define SHM_IDENTITY_H

#include <stdint.h>

/*
 * Returns a number, never 0, that differs from the numbers of all processes that
 * this process was forked from. Siblings can have the same number: neither has a
 * copy of the other's memory. Async-signal-safe.
 */
uint64_t shm_process_token(void);

/*
 * Returns the address of the word that holds the token. If the word is 0,
 * shm_process_token must be called for the token.
 */
const uint64_t *shm_process_token_word(void);

#endif
