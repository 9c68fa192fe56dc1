/*
 * A denied system call is SIGSYS: the filter of a sandbox returns
 * SECCOMP_RET_TRAP. The handler records the call, and the child ends. A few calls
 * that C libraries make in passing are answered instead.
 */
#ifndef SHM_DENIAL_H
#define SHM_DENIAL_H

/* In the child, after shm_report_to: installs the handler. */
void shm_report_denials(void);

#endif
