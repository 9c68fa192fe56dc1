#ifndef CALLGO_H
#define CALLGO_H

#include <stddef.h>

int child_calls_go(void *addr, size_t length);           /* returns what Go does */
int child_calls_go_on_thread(void *addr, size_t length); /* has a thread of its own do it */

#endif
