/*
 * The crash report: what a child records of the fatal signal that it dies of.
 */
#ifndef SHM_REPORT_H
#define SHM_REPORT_H

#include "control.h"

/* In the child: has SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT recorded before the child dies of them. */
void shm_report_crashes(struct shm_crash *report);

#endif
