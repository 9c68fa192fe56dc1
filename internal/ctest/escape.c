#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "escape.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Numbers that are the same on all processors, for older headers. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_send_signal 424
#define SYS_io_uring_setup 425
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_close_range 436
#define SYS_pidfd_getfd 438
#define SYS_process_madvise 440
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#if !defined(SYS_memfd_secret) && !defined(__arm__) /* no kernel has it on 32-bit ARM */
#define SYS_memfd_secret 447
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif

static long send_to_parent(void)
{
	return syscall(SYS_kill, getppid(), 0);
}

static long raise_in_parent(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static long parents_memory(void)
{
	return syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
}

static long parents_clock(void)
{
	return syscall(SYS_clock_gettime, (long)(~(unsigned)getppid() << 3 | 2), NULL);
}

static long code_of_the_heap(void)
{
	void *p = NULL;

	if (posix_memalign(&p, 4096, 4096) != 0)
		return 0;
	return mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static long code_that_can_be_changed(void)
{
	uintptr_t code = (uintptr_t)code_of_the_heap & ~(uintptr_t)4095;

	return mprotect((void *)code, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static long cleanup_of_the_guard(void)
{
	signal(SIGSYS, SIG_IGN);
	return -1;
}

#ifdef __x86_64__
static long by_int_0x80(void)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(5L), "b"(0L), "c"(0L), "d"(0L)
			 : "memory", "r8", "r9", "r10", "r11");
	return result;
}

static long by_x32(void)
{
	return syscall(0x40000000 | SYS_open, "/etc/passwd", O_RDONLY);
}

static long by_x32_execve(void)
{
	return syscall(0x40000000 | 520, "/bin/true", NULL, NULL);
}
#endif

#define TEXT(s) ((long)(s))
#define CALL(what, name, ...)                                  \
	{                                                      \
		what, #name, SYS_##name, { __VA_ARGS__ }, NULL \
	}
#define DO(what, name, function)               \
	{                                      \
		what, name, 0, { 0 }, function \
	}

static const char passwd[] = "/etc/passwd", nowhere[] = "/nowhere/at/all", here[] = "/";

/* If one is not denied, it does no harm: paths and process ids are of none, signals are 0. */
static const struct escape escapes[] = {
	/* files */
	CALL("opens a file", openat, AT_FDCWD, TEXT(passwd), O_RDONLY),
	CALL("makes a file", openat, AT_FDCWD, TEXT(nowhere), O_CREAT | O_WRONLY, 0600),
#ifdef SYS_open
	CALL("opens a file in the old way", open, TEXT(passwd), O_RDONLY),
	CALL("makes a file in the old way", creat, TEXT(nowhere), 0600),
	CALL("removes a file", unlink, TEXT(nowhere)),
	CALL("looks for a file", access, TEXT(passwd), R_OK),
#endif
	CALL("removes a file at a folder", unlinkat, AT_FDCWD, TEXT(nowhere), 0),
	CALL("renames a file", renameat2, AT_FDCWD, TEXT(nowhere), AT_FDCWD, TEXT(nowhere), 0),
	CALL("links a file", linkat, AT_FDCWD, TEXT(nowhere), AT_FDCWD, TEXT(nowhere), 0),
	CALL("makes a symbolic link", symlinkat, TEXT(nowhere), AT_FDCWD, TEXT(nowhere)),
	CALL("reads a symbolic link", readlinkat, AT_FDCWD, TEXT(nowhere), TEXT(nowhere), 0),
	CALL("makes a folder", mkdirat, AT_FDCWD, TEXT(nowhere), 0700),
	CALL("makes a device", mknodat, AT_FDCWD, TEXT(nowhere), 0600, 0),
	CALL("changes a mode", fchmodat, AT_FDCWD, TEXT(nowhere), 0600),
	CALL("changes the mode of stdin", fchmod, -1, 0600),
	CALL("changes an owner", fchownat, AT_FDCWD, TEXT(nowhere), -1, -1, 0),
	CALL("truncates a file", truncate, TEXT(nowhere), 0),
	CALL("truncates an object", ftruncate, -1, 0),
	CALL("punches a hole into an object", fallocate, -1, 3, 0, 4096),
	CALL("changes a file's times", utimensat, AT_FDCWD, TEXT(nowhere), 0, 0),
	CALL("sets an attribute", setxattr, TEXT(nowhere), TEXT(nowhere), 0, 0, 0),
	CALL("looks for a file at a folder", faccessat, AT_FDCWD, TEXT(passwd), R_OK),
	CALL("asks for a file's size", statx, AT_FDCWD, TEXT(passwd), 0, 0, 0),
	CALL("lists a folder", getdents64, -1, 0, 0),
	CALL("changes its folder", chdir, TEXT(nowhere)),
	CALL("asks for its folder", getcwd, 0, 0),
	CALL("changes its root", chroot, TEXT(nowhere)),
	CALL("asks for a handle", name_to_handle_at, AT_FDCWD, TEXT(nowhere), 0, 0, 0),
	CALL("opens by a handle", open_by_handle_at, -1, 0, 0),
	CALL("makes an object", memfd_create, TEXT(here), 0),
#ifdef SYS_memfd_secret
	CALL("makes a secret object", memfd_secret, 0xffff),
#endif
	CALL("copies between files", copy_file_range, -1, 0, -1, 0, 0, 0),
	CALL("sends a file", sendfile, -1, -1, 0, 0),
	CALL("splices", splice, -1, 0, -1, 0, 0, 0),
	CALL("splices memory", vmsplice, -1, 0, 0, 0),
	CALL("makes a pipe", pipe2, 0, 0),
	CALL("watches files", inotify_init1, 0xffff),
	CALL("watches all files", fanotify_init, 0xffff, 0),
	CALL("locks a file", flock, -1, 0),
	CALL("flushes all disks", syncfs, -1),

	/* file systems */
	CALL("mounts", mount, TEXT(nowhere), TEXT(nowhere), TEXT(nowhere), 0, 0),
	CALL("unmounts", umount2, TEXT(nowhere), 0),
	CALL("changes the root of all", pivot_root, TEXT(nowhere), TEXT(nowhere)),
	CALL("opens a mount", open_tree, -1, TEXT(nowhere), 0xffff),
	CALL("moves a mount", move_mount, -1, TEXT(nowhere), -1, TEXT(nowhere), 0),
	CALL("opens a file system", fsopen, TEXT(nowhere), 0xffff),
	CALL("swaps", swapon, TEXT(nowhere), 0),
	CALL("sets quotas", quotactl, 0xffff, 0, 0, 0),

	/* sockets */
	CALL("makes a socket of the network", socket, AF_INET, SOCK_STREAM, 0),
	CALL("makes a local socket", socket, AF_UNIX, SOCK_STREAM, 0),
	CALL("makes a socket of the kernel's", socket, 16, SOCK_RAW, 0),
	CALL("makes a pair of sockets", socketpair, AF_UNIX, SOCK_STREAM, 0, 0),
	CALL("connects", connect, -1, 0, 0),
	CALL("binds", bind, -1, 0, 0),
	CALL("listens", listen, -1, 1),
	CALL("accepts", accept4, -1, 0, 0, 0),
	CALL("sends to an address", sendto, -1, 0, 0, MSG_DONTWAIT | MSG_NOSIGNAL, TEXT(here), 16),
	CALL("sends out of band", sendto, -1, 0, 0, MSG_OOB, 0, 0),
	CALL("sends descriptors", sendmsg, -1, 0, 0),
	CALL("receives descriptors", recvmsg, -1, 0, 0),
	CALL("sets an option of a socket", setsockopt, -1, 0, 0, 0, 0),
	CALL("asks who is at the other end", getpeername, -1, 0, 0),
	CALL("shuts a socket down", shutdown, -1, 0),

/* processes */
#ifdef SYS_fork
	CALL("forks", fork),
	CALL("forks in its memory", vfork),
#endif
	CALL("makes a process", clone, SIGCHLD),
	CALL("makes a sibling", clone, CLONE_PARENT | SIGCHLD),
	CALL("makes a namespace of users", clone, 0x10000000 | SIGCHLD),
	CALL("runs a program", execve, TEXT(nowhere), 0, 0),
	CALL("runs a program at a folder", execveat, -1, TEXT(nowhere), 0, 0, 0),
	DO("sends a signal to its parent", "kill", send_to_parent),
	DO("sends a signal to a thread of its parent", "tgkill", raise_in_parent),
	CALL("sends a signal to all", kill, -1, 0),
	CALL("sends a signal to its group", kill, 0, 0),
	CALL("sends a signal to a thread", tkill, 1, 0),
	CALL("sends a signal with data", rt_sigqueueinfo, 1, 0, 0),
	CALL("opens a process", pidfd_open, 1, 0xffff),
	CALL("sends a signal by a pidfd", pidfd_send_signal, -1, 0, 0, 0),
	CALL("takes a descriptor", pidfd_getfd, -1, 0, 0),
	CALL("traces", ptrace, PTRACE_TRACEME, 0, 0, 0),
	CALL("attaches", ptrace, 0x4206, 1, 0, 0),
	DO("reads its parent's memory", "process_vm_readv", parents_memory),
	CALL("writes another's memory", process_vm_writev, 1, 0, 0, 0, 0, 0),
	CALL("advises another's memory", process_madvise, -1, 0, 0, 0, 0),
	CALL("frees another's memory", process_mrelease, -1, 0),
	CALL("compares processes", kcmp, 1, 1, 0, 0, 0),
	CALL("waits for any", wait4, -1, 0, 1, 0),
	CALL("joins a group", setpgid, 0, 0),
	CALL("makes a session", setsid),
	CALL("becomes another user", setresuid, -1, -1, -1),
	CALL("becomes another group", setresgid, -1, -1, -1),
	CALL("takes capabilities", capset, 0, 0),
	CALL("keeps its memory from dumps", prctl, 4, 1),
	CALL("leaves its parent's death", prctl, 1, 0),
	CALL("makes a namespace", unshare, 0x10000000),
	CALL("joins a namespace", setns, -1, 0),

	/* the kernel's surface */
	CALL("loads a program into the kernel", bpf, 0xffff, 0, 0),
	CALL("makes a ring", io_uring_setup, 0, 0),
	CALL("measures", perf_event_open, 0, 0, 0, -1, -1),
	CALL("handles faults", userfaultfd, 0xffff),
	CALL("uses keys", keyctl, 0xffff, 0, 0, 0, 0),
	CALL("adds a key", add_key, 0, 0, 0, 0, 0),
	CALL("asks for a key", request_key, 0, 0, 0, 0),
	CALL("loads a module", init_module, 0, 0, TEXT(here)),
	CALL("loads a module of a file", finit_module, -1, TEXT(here), 0),
	CALL("reads the kernel's log", syslog, 0xffff, 0, 0),
	CALL("reboots", reboot, 0, 0, 0, 0),
	CALL("has its end recorded", acct, TEXT(nowhere)),
	CALL("changes its personality", personality, 0xffffffff),
	CALL("makes another filter", seccomp, 0xffff, 0, 0),
	CALL("makes another ruleset", landlock_create_ruleset, 0, 0, 0xffff),
	CALL("moves memory between nodes", move_pages, 0, 0, 0, 0, 0, 0),
	CALL("makes an event", eventfd2, 0, 0xffff),
	CALL("makes an epoll", epoll_create1, 0xffff),
	CALL("makes a descriptor of signals", signalfd4, -1, 0, 0, 0xffff),
	CALL("makes requests", io_setup, 0, 0),
	CALL("makes a queue", mq_open, 0, 0, 0, 0),
	CALL("makes memory of System V", shmget, 0, 0, 0),
	CALL("maps memory of System V", shmat, -1, 0, 0),
	CALL("makes a semaphore", semget, 0, 0, 0),
	CALL("makes messages", msgget, 0, 0),
	CALL("locks with priorities", futex, 0, 6, 0, 0, 0, 0),
#ifdef SYS_modify_ldt
	CALL("changes its segments", modify_ldt, 0xffff, 0, 0),
	CALL("uses ports", ioperm, 0, 0, 0),
	CALL("uses all ports", iopl, 0),
#endif

/* memory */
#ifdef SYS_mmap2
	CALL("maps code", mmap2, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	CALL("maps shared memory", mmap2, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
	CALL("maps a file", mmap2, 0, 4096, PROT_READ, MAP_PRIVATE, -1, 0),
	CALL("maps huge pages", mmap2, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0),
#else
	CALL("maps code", mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	CALL("maps shared memory", mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
	CALL("maps a file", mmap, 0, 4096, PROT_READ, MAP_PRIVATE, -1, 0),
	CALL("maps huge pages", mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0),
#endif
	DO("makes its heap code", "mprotect", code_of_the_heap),
	DO("makes its code writable", "mprotect", code_that_can_be_changed),
	CALL("makes code by a key", pkey_mprotect, 0, 0, PROT_EXEC, -1),
	CALL("locks all its memory", mlockall, 0xffff),
	CALL("locks memory", mlock, 0, 0),
	CALL("breaks a page of the machine", madvise, 0, 0, 100),
	CALL("merges its pages with others", madvise, 0, 0, 12),
	CALL("writes memory back", msync, 0, 0, 0),
	CALL("asks what is resident", mincore, 0, 0, 0),

	/* limits, priorities, clocks */
	CALL("sets a limit", prlimit64, 0, RLIMIT_NOFILE, TEXT(here), 0),
	CALL("asks for another's limit", prlimit64, 1, RLIMIT_NOFILE, 0, 0),
	CALL("sets a limit in the old way", setrlimit, 0xffff, 0),
	CALL("takes a priority", setpriority, 0, 0, 0),
	CALL("takes a processor", sched_setaffinity, 0, 0, 0),
	CALL("becomes a process of real time", sched_setscheduler, 0, 0xffff, 0),
	CALL("takes a priority of its disk", ioprio_set, 0xffff, 0, 0),
	CALL("sets the clock", clock_settime, 0xffff, 0),
	CALL("sets the time", settimeofday, 0, 0),
	CALL("adjusts the clock", adjtimex, 0),
	DO("asks for its parent's clock", "clock_gettime", parents_clock),
	CALL("sets an alarm", setitimer, 0, 0, 0),
	CALL("makes a timer", timer_create, 0xffff, 0, 0),
	CALL("makes a descriptor of a timer", timerfd_create, 0xffff, 0),
	CALL("names the machine", sethostname, 0, -1),

	/* descriptors */
	CALL("makes a descriptor block", fcntl, -1, F_SETFL, 0),
	CALL("has signals sent for a descriptor", fcntl, -1, F_SETOWN, 0),
	CALL("seals an object", fcntl, -1, 1033, 0),
	CALL("duplicates a descriptor", dup, -1),
	CALL("replaces a descriptor", dup3, -1, -1, 0),
	CALL("closes all descriptors", close_range, 100, 0, 0),
	CALL("types into the terminal", ioctl, -1, 0x5412, 0),
	CALL("makes a descriptor not block", ioctl, -1, 0x5421, 0),
	CALL("ignores what is denied", rt_sigaction, SIGSYS, 0, 0, 8),
	DO("ignores what is denied, by libc", "rt_sigaction", cleanup_of_the_guard),

/* the calls of other ABIs */
#ifdef __x86_64__
	DO("opens a file by another ABI", "open (386)", by_int_0x80),
	DO("opens a file by x32", "open (x32)", by_x32),
	DO("runs a program by x32", "520 (x32)", by_x32_execve),
#endif
	{ "makes a call that does not exist", "1000", 1000, { 0 }, NULL },
	{ "makes a call of a negative number", "-2", -2, { 0 }, NULL },
};

const struct escape *escape_at(int i)
{
	return i < (int)(sizeof(escapes) / sizeof(escapes[0])) ? &escapes[i] : NULL;
}

static long attempt(const struct escape *e)
{
	if (e->try != NULL)
		return e->try();
	return syscall(e->number, e->args[0], e->args[1], e->args[2], e->args[3], e->args[4], e->args[5]);
}

int child_escape(void *addr, size_t length)
{
	(void)length;
	attempt(escape_at(*(int *)addr));
	return 77;
}

int child_escape_all(void *addr, size_t length)
{
	int i, *errors = addr;

	for (i = 0; escape_at(i) != NULL && (size_t)i < length / sizeof(*errors); i++)
		errors[i] = attempt(escape_at(i)) == -1 ? errno : 0;
	return 0;
}

int child_call(void *addr, size_t length)
{
	long *a = addr, result;

	(void)length;
	result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
	a[0] = result == -1 ? -errno : result;
	return 0;
}

int child_write_alias(void *addr, size_t length)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *second = (char *)addr + page, *alias = mremap(second, 0, page, MREMAP_MAYMOVE, NULL);

	(void)length;
	*(volatile char *)(alias != MAP_FAILED ? alias : second) = 3;
	return 0;
}

/* The page before the range is of the same object: mapped again, or longer, it would have the range. */
int child_write_longer(void *addr, size_t length)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *alias = mremap(addr, 0, 2 * page, MREMAP_MAYMOVE);

	(void)length;
	if (alias == MAP_FAILED)
		alias = mremap(addr, page, 2 * page, MREMAP_MAYMOVE);
	if (alias == MAP_FAILED)
		return errno;
	alias[page] = 3;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

int child_compute(void *addr, size_t length)
{
	enum { COUNT = 20000 };
	volatile double x = 0.5;
	struct timespec t = { 0, 1000 };
	int i, *numbers = malloc(COUNT * sizeof(*numbers));
	char *large = malloc(8 << 20), *larger, text[64];

	(void)length;
	if (numbers == NULL || large == NULL)
		return 1;
	memset(large, 1, 8 << 20);
	for (i = 0; i < COUNT; i++)
		numbers[i] = (i * 7919) % COUNT;
	qsort(numbers, COUNT, sizeof(*numbers), compare);
	for (i = 0; i < COUNT; i++)
		if (numbers[i] != i)
			return 2;
	snprintf(text, sizeof(text), "%.3f %s", sin(x) * sin(x) + cos(x) * cos(x), "done");
	if (strcmp(text, "1.000 done") != 0 || time(NULL) == 0 || clock() == (clock_t)-1 || nanosleep(&t, NULL) != 0)
		return 3;
	larger = realloc(large, 10 << 20);
	if (larger == NULL || larger[(8 << 20) - 1] != 1)
		return 4;
	free(larger);
	free(numbers);
	printf("%s", "");
	fflush(stdout);
	memcpy(addr, text, sizeof(text));
	return 0;
}

struct part {
	const unsigned char *bytes;
	size_t length;
	int sum;
};

static void *add_up(void *arg)
{
	struct part *p = arg;
	size_t i;

	for (i = 0; i < p->length; i++)
		p->sum += p->bytes[i];
	return NULL;
}

int child_sum_by_threads(void *addr, size_t length)
{
	enum { THREADS = 4 };
	struct part parts[THREADS];
	pthread_t threads[THREADS];
	int i, sum = 0;

	for (i = 0; i < THREADS; i++) {
		parts[i] = (struct part){ (unsigned char *)addr + length / THREADS * (size_t)i, length / THREADS, 0 };
		if (pthread_create(&threads[i], NULL, add_up, &parts[i]) != 0)
			return -1;
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum += parts[i].sum;
	}
	return sum;
}
