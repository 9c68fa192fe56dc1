/* What children do with the processor. */
#ifndef SPIN_H
#define SPIN_H

#include <stddef.h>

int child_spin(void *unused, size_t ms);         /* uses so many milliseconds of processor time */
int child_spin_threads(void *unused, size_t ms); /* so do three threads of it, each */

#endif
