/*
 * What else a child starts with: its standard files, its working directory, its
 * limit of memory, its argument. All functions are async-signal-safe.
 */
#ifndef SHM_FILES_H
#define SHM_FILES_H

#include "child.h"

/* Makes the files of args the child's standard files. Returns 0, or -1 with errno set. */
int shm_set_files(const struct shm_fork_args *args);

/* Changes to the directory of args. Returns 0, or -1 with errno set. */
int shm_set_directory(const struct shm_fork_args *args);

/* Limits the child's memory. Returns 0, or -1 with errno set. */
int shm_set_memory_limit(uint64_t beyond);

/* Sets what shm_arg of shm_child.h returns. */
void shm_set_arg(uintptr_t arg);

#endif
