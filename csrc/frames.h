/*
 * Which functions called the one that crashed. The C library's unwinder finds
 * them, which loads itself the first time that it is used: so the parent prepares
 * it before it forks. In the child the unwinder allocates nothing and takes no
 * lock from glibc 2.35 on. Elsewhere there are no frames.
 */
#ifndef SHM_FRAMES_H
#define SHM_FRAMES_H

#include "pool.h"

/* In the parent: loads the unwinder. */
void shm_prepare_frames(void);

/*
 * In a handler of the child's: writes where the callers of the function at pc go
 * on, innermost first, and returns how many there are.
 */
uint32_t shm_find_frames(uint64_t pc, struct shm_frame *frames);

/* In a handler of the child's: does not return if the unwinder has met memory that is damaged. */
void shm_escape_unwinder(void);

/* These run a function of the program. What called them is left out of the frames. */
int shm_run_child(shm_child child, void *addr, size_t length);
int shm_run_do(shm_do work, const void *in, size_t in_length, struct shm_out *out);

#endif
