/* What children do with their standard files, their directory, their argument and their memory. */
#ifndef GIVEN_H
#define GIVEN_H

#include <stddef.h>

int child_say(void *addr, size_t length);    /* prints "out N" and "err N", N being its argument */
int child_cat(void *addr, size_t length);    /* copies its standard input to its standard output */
int child_where(void *addr, size_t length);  /* prints its working directory */
int child_arg(void *addr, size_t length);    /* returns its argument */
int child_take(void *addr, size_t bytes);    /* maps so many bytes more, the length of its mapping; returns 0, or the errno value */
int child_standard(void *addr, size_t length); /* returns which of 0, 1 and 2 are open: 1 for 0, 2 for 1, 4 for 2 */
int child_leaver(void *addr, size_t length); /* prints "before", and leaves behind a child that has its files and stays until the int at addr is not 0 */
int child_flood(void *addr, size_t bytes);   /* writes so many bytes 'x' */
int shm_arg_here(void);
int child_open_file(void *addr, size_t length); /* opens /proc/self/maps; returns 0, or 1 */

#endif
