#ifndef SHM_CLOSE_FDS_H
#define SHM_CLOSE_FDS_H

#include <stddef.h>

/*
 * Closes all descriptors above 2, except those in keep. They are in ascending
 * order. Returns 0, or -1 with errno set. Async-signal-safe.
 */
int shm_close_fds(const int *keep, size_t count);

#endif
