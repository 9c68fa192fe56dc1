/* What children and the Init functions of a fork server's tests do. */
#ifndef SERVER_H
#define SERVER_H

#include <stddef.h>

int child_tid(void *addr, size_t length);    /* exits 0 if libc and the kernel agree on its thread id, and a thread of its own works */
int child_own_dead(void *addr, size_t length); /* makes a robust mutex at addr + 64, locks it and is killed */
int child_heir(void *addr, size_t length);   /* exits 0 if locking the mutex of child_own_dead tells that its owner died */
int child_forks(void *addr, size_t length);  /* forks a child by libc, and exits 0 if that child has the right parent and exits with 7 */
int child_warm(void *addr, size_t length);   /* exits with what init_warm has left in private memory */
int child_stop_server(void *addr, size_t length); /* sends SIGSTOP to the process whose id is at addr */
int child_peek(void *addr, size_t length);   /* writes 0 at addr if it can read the memory of the process whose id is there, else errno */
int child_sockets(void *unused, size_t n);   /* exits with its number of sockets */
int child_uid(void *addr, size_t length);    /* becomes user nobody, and does what child_peek does */
int child_answer(void *addr, size_t length); /* says that it is the child for request 1 by the descriptor at addr, and stays if the int at addr + 4 is 0 */
int clone_at(int pid);                       /* forks a child that has this process id, and stays; returns 0 or an errno value */
int child_kill(void *addr, size_t length);   /* sends SIGKILL to the process whose id is at addr */

int init_warm(void *addr, size_t length);    /* adds 1 to the int at addr + 128, and leaves it in private memory */
int init_fail(void *addr, size_t length);    /* returns 3 */
int init_crash(void *addr, size_t length);   /* dies of SIGSEGV */
int init_exit(void *addr, size_t length);    /* calls _exit(0) */
int init_thread(void *addr, size_t length);  /* leaves a thread running */
int init_joined(void *addr, size_t length);  /* joins the thread that it starts */
int init_locked(void *addr, size_t length);  /* leaves a robust mutex locked */
int init_once(void *addr, size_t length);    /* succeeds for the first time only: then the int at addr + 128 is not 0 */
int init_slow(void *addr, size_t length);    /* waits while the int at addr + 128 is 1, and sets the next int to 1 */
int init_stop(void *addr, size_t length);    /* stops if the int at addr + 128 is 1, and sets the next int to 1 */

#endif
