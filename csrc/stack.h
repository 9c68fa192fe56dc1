/*
 * The stack of the program's threads. A child's function runs on the copy of
 * the stack of the thread that forked, and that is one of Go's, whose stack has
 * the size that libc gives by default. musl gives 128 KiB behind a guard of 8
 * KiB: the array of a C function that is usual elsewhere ends beyond both, in
 * memory of another's.
 *
 * So as the program is loaded, before Go makes a thread, the default is raised
 * to 8 MiB, or to RLIMIT_STACK where that is less, and the guard to a MiB. It
 * is address space: a stack takes memory as it is used. Where libc's default is
 * as large already, as glibc's is, it stays.
 */
#ifndef SHM_STACK_H
#define SHM_STACK_H

#include <stddef.h>

enum { SHM_STACK_SIZE = 8 << 20, SHM_STACK_GUARD = 1 << 20 };

#endif
