/*
 * The size of the stacks of the program's threads. A child's function runs on a
 * copy of the stack of the thread that forked. That thread is one of Go's, and
 * its stack has libc's default size. With musl the default is 128 KiB, with a
 * guard of 8 KiB. A large array of a C function reaches beyond both, into other
 * memory.
 *
 * So the default is raised when the program is loaded, before Go makes a thread:
 * the stack to 8 MiB, or to RLIMIT_STACK if that is less, and the guard to 1 MiB.
 * This costs address space only, because a stack gets memory when it is used. If
 * libc's default is as large already, as with glibc, it stays.
 */
#ifndef SHM_STACK_H
#define SHM_STACK_H

#include <stddef.h>

enum {
	SHM_STACK_SIZE = 8 << 20,
	SHM_STACK_GUARD = 1 << 20,
};

#endif
