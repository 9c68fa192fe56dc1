/*
 * The fork server: a child that forks other children. It has one thread and
 * little memory, so that a fork of it costs little, whatever its parent weighs.
 *
 * The server's children are children of its parent, too, and not of the server
 * (CLONE_PARENT). They are made by the system call, since libc's fork cannot do
 * that. What libc's fork does for the child besides is done here: the word that
 * holds libc's thread id, and the list of robust mutexes. Neither the handlers of
 * pthread_atfork(3) nor those of malloc run. With one thread they are not needed:
 * no other thread holds a lock.
 *
 * Parent and server talk by a socket of their own (SOCK_SEQPACKET):
 *
 *   - A request has the arguments of one fork, and the descriptors that the child
 *     gets: that of its control page, and those in the arguments.
 *   - An answer comes from the child itself, before its set-up. So the kernel
 *     says who the child is (SCM_CREDENTIALS), and not the server. Only a process
 *     that has CAP_SYS_ADMIN can forge that.
 *   - If the server cannot fork, the answer comes from the server, with an errno
 *     value.
 *
 * No child has the socket when its function begins. The server does not allow
 * others of its user to trace it or to write to its memory (PR_SET_DUMPABLE), and
 * its control page is not in its children. So a hostile child can kill the server,
 * and nothing else. The parent believes the server no more than a child.
 */
#ifndef SHM_FORK_SERVER_H
#define SHM_FORK_SERVER_H

#include "set_up.h"

/*
 * In the server: shm_set_up, and whether the kernel, libc and the process that
 * Init has left behind are such that a server can be. After SHM_CALL_THREADS,
 * result->which is the number of threads.
 */
enum shm_set_up_call shm_server_set_up(const struct shm_start *s, struct shm_set_up *result);

/*
 * In the server: serves requests until the parent closes its end of the socket.
 * start is what each child does; it must not return.
 */
void shm_server_run(const struct shm_start *s, void (*start)(void *arg)) __attribute__((noreturn));

/* In a child that awaits its function: waits for it, and runs it on memory at addr. Returns its result. */
int shm_server_run_function(struct shm_control *control, void *addr);

/* In the parent: gives such a child its function, and the length of the memory. */
void shm_server_give_function(struct shm_control *control, shm_child child, size_t length);

/*
 * In the parent: makes a control page if the flags need one, and sends request
 * number seq. The results are those of shm_fork_with, without a pid. Forks must
 * not run meanwhile, since they would inherit what is made here.
 */
int shm_server_ask(int fd, uint32_t seq, struct shm_fork_args *args);

/*
 * In the parent: waits for the answer to request seq, timeout nanoseconds at
 * most, or not at all if timeout is 0. server is the server's process id. Returns
 * 0 and the child in *pid, or an errno value: EAGAIN if there is no answer yet,
 * EPIPE if there will be none, EPROTO if there are others than to seq. If the
 * server could not fork, the result is 0, and *err an errno value.
 */
int shm_server_answer(int fd, uint32_t seq, pid_t server, int64_t timeout, pid_t *pid, int *err);

#endif
