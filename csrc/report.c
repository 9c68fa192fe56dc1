#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "report.h"
#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static uintptr_t instruction(const ucontext_t *context)
{
#if defined(__x86_64__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__i386__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_EIP];
#elif defined(__aarch64__)
	return (uintptr_t)context->uc_mcontext.pc;
#elif defined(__riscv)
	return (uintptr_t)context->uc_mcontext.__gregs[REG_PC];
#else
	(void)context;
	return 0;
#endif
}

/* In the child: where to report to, and who it is, as a child of its own must not report. */
static struct shm_crash *report_to;
static struct {
	pid_t pid;      /* another where the child has a child that shares its memory */
	uint64_t token; /* another where that has a copy of it */
} report_of;

/* A line of /proc/self/maps. */
struct map_line {
	uintptr_t start, end, offset, inode;
	const char *name; /* empty if it has none */
};

static const char *parse_number(const char *s, unsigned base, uintptr_t *value)
{
	for (*value = 0;; s++) {
		unsigned digit = *s >= '0' && *s <= '9' ? (unsigned)(*s - '0') : *s >= 'a' && *s <= 'f' ? (unsigned)(*s - 'a') + 10 : 16;

		if (digit >= base)
			return s;
		*value = *value * base + digit;
	}
}

static const char *next_field(const char *s)
{
	while (*s != ' ' && *s != '\0')
		s++;
	while (*s == ' ')
		s++;
	return s;
}

/* start-end permissions offset device inode name */
static void parse_line(const char *s, struct map_line *line)
{
	s = parse_number(s, 16, &line->start);
	if (*s == '-')
		s++;
	s = next_field(parse_number(s, 16, &line->end));
	s = parse_number(next_field(s), 16, &line->offset);
	s = parse_number(next_field(next_field(s)), 10, &line->inode);
	line->name = next_field(s);
}

/* Returns whether that was the line looked for. */
static int look_at(const char *s, struct shm_crash *r)
{
	static uintptr_t begins, inode; /* of the file last seen to begin */
	struct map_line line;

	parse_line(s, &line);
	if (line.offset == 0 && line.inode != 0 && line.inode != inode) {
		begins = line.start;
		inode = line.inode;
	}
	if (r->pc < line.start || r->pc >= line.end)
		return 0;
	r->base = line.inode != 0 && line.inode == inode ? begins : line.start - line.offset;
	strncpy(r->module, line.name, sizeof(r->module) - 1);
	return 1;
}

/*
 * What the child loaded itself its parent does not know, and may have something
 * else there. So the child looks for itself, by open and read alone.
 */
static void report_module(struct shm_crash *r)
{
	static char read_ahead[4096], line[SHM_MAX_MODULE + 128];
	size_t length = 0;
	ssize_t i, n;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), found = 0;

	if (fd == -1)
		return;
	while (!found && (n = read(fd, read_ahead, sizeof(read_ahead))) > 0) {
		for (i = 0; i < n && !found; i++) {
			if (read_ahead[i] == '\n') {
				line[length] = '\0';
				found = look_at(line, r);
				length = 0;
			} else if (length < sizeof(line) - 1) {
				line[length++] = read_ahead[i];
			}
		}
	}
	close(fd);
	if (found)
		__atomic_store_n(&r->state, SHM_CRASH_LOCATED, __ATOMIC_RELEASE);
}

static int is_reporter(void)
{
	return getpid() == report_of.pid && shm_process_token() == report_of.token;
}

/*
 * Records the signal. The disposition is the default again by now, so that the
 * child dies of it: a fault comes back when the instruction is run again; what
 * was sent is sent once more.
 */
static void report_crash(int sig, siginfo_t *info, void *context)
{
	struct shm_crash *r = report_to;
	uint32_t none = SHM_CRASH_NONE;
	int err = errno;

	if (is_reporter() && __atomic_compare_exchange_n(&r->state, &none, SHM_CRASH_CLAIMED, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		r->sig = sig;
		r->code = info->si_code;
		r->addr = (uintptr_t)info->si_addr;
		r->pc = instruction(context);
		__atomic_store_n(&r->state, SHM_CRASH_RECORDED, __ATOMIC_RELEASE);
		report_module(r);
	}
	if (info->si_code <= 0)
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
	errno = err;
}

/* A stack that ran over leaves no room for a handler on it. Each child has its own copy. */
static char report_stack[1 << 16];

void shm_report_crashes(struct shm_crash *report)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct sigaction action = { .sa_sigaction = report_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND };
	stack_t stack = { .ss_sp = report_stack, .ss_size = sizeof(report_stack) };
	size_t i;

	report_to = report;
	report_of.pid = getpid();
	report_of.token = shm_process_token();
	sigaltstack(&stack, NULL);
	for (i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaction(sigs[i], &action, NULL);
}
