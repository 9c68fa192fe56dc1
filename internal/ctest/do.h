/* What the children of pools do with bytes in and bytes out: see shm_child.h. */
#ifndef DO_H
#define DO_H

#include "../../csrc/shm_child.h"

int do_echo(const void *in, size_t in_length, struct shm_out *out);   /* answers with its input */
int do_fill(const void *in, size_t in_length, struct shm_out *out);   /* answers with as many bytes 0x5a as the uint64_t at in says; returns 1 where that is too much */
int do_shrink(const void *in, size_t in_length, struct shm_out *out); /* the same, and then makes the answer one byte */
int do_append(const void *in, size_t in_length, struct shm_out *out); /* adds its input to the answer, byte by byte, then asks for too much */
int do_fail(const void *in, size_t in_length, struct shm_out *out);   /* answers "bad input" and returns -3 */
int do_crash(const void *in, size_t in_length, struct shm_out *out);  /* makes half of its answer, and reads address 16 */
int do_over(const void *in, size_t in_length, struct shm_out *out);   /* writes on behind its answer */
int do_before(const void *in, size_t in_length, struct shm_out *out); /* writes before its input */
int do_claim(const void *in, size_t in_length, struct shm_out *out);  /* says that its answer has as many bytes as the uint64_t at in, though there is no room for them */
int do_damage(const void *in, size_t in_length, struct shm_out *out); /* fills *out with what is at in */
int do_pause(const void *in, size_t in_length, struct shm_out *out);  /* makes half of its answer, and stays until killed */
int do_exit(const void *in, size_t in_length, struct shm_out *out);   /* makes half of its answer, and exits with status 0 */
int do_linger(const void *in, size_t in_length, struct shm_out *out); /* answers with a page, which one of its threads goes on changing */
int do_pid(const void *in, size_t in_length, struct shm_out *out);    /* answers with its process id, an int32_t */
int do_maps(const void *in, size_t in_length, struct shm_out *out);   /* answers with the lines of /proc/self/maps that are shared */

int child_echo(void *addr, size_t length); /* a shm_child: copies the first half of its memory to the second */

int child_begin(void *addr, size_t length); /* a shm_child: stores 1 in the int at addr, and stays until killed */

#endif
