/* What children do that the C library ends. */
#ifndef ABORTS_H
#define ABORTS_H

#include "../../csrc/shm_child.h"

int child_abort(void *addr, size_t how);     /* ends by abort(3): 1 directly, 2 by assert(3), 3 by free(3) of no memory */
int child_bad_string(void *addr, size_t unused); /* has strlen(3) read address 16 */
int child_abort_on(void *addr, size_t how);  /* aborts with a stack that cannot be unwound */
int do_abort(const void *in, size_t in_length, struct shm_out *out);
int has_unwinder(void); /* whether this is glibc 2.35 or later */

#endif
