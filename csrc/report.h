/*
 * The crash report: a child's record of the fatal signal that it dies of.
 */
#ifndef SHM_REPORT_H
#define SHM_REPORT_H

#include "control.h"

/*
 * In the child: installs a handler that records SIGSEGV, SIGBUS, SIGILL, SIGFPE
 * and SIGABRT in *crash.
 */
void shm_report_crashes(struct shm_crash *crash);

#endif
