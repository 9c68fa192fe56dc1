/*
 * The crash report: a child's record of the fatal signal that it dies of.
 */
#ifndef SHM_REPORT_H
#define SHM_REPORT_H

#include "control.h"

#include <signal.h>

/*
 * In the child: makes *crash the record, and gives handlers a stack of their own.
 * may_open says whether they may open files.
 */
void shm_report_to(struct shm_crash *crash, int may_open);

/* In the child: installs a handler that records SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT. */
void shm_report_crashes(void);

/*
 * In a handler: records the signal. Returns the record, or NULL if there is one
 * already, or if this process is not the one to write it.
 */
struct shm_crash *shm_record_signal(int sig, const siginfo_t *info, const void *context);

#endif
