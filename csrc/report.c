#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "report.h"
#include "frames.h"
#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Returns the address of the instruction, or 0 if the architecture is not known. */
static uintptr_t instruction(const ucontext_t *context)
{
#if defined(__x86_64__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__i386__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_EIP];
#elif defined(__aarch64__)
	return (uintptr_t)context->uc_mcontext.pc;
#elif defined(__arm__)
	return (uintptr_t)context->uc_mcontext.arm_pc;
#elif defined(__riscv)
	return (uintptr_t)context->uc_mcontext.__gregs[REG_PC];
#else
	(void)context;
	return 0;
#endif
}

/* In the child: the record, and which process may write it. A child of the child must not. */
static struct shm_crash *record;
static struct {
	pid_t pid;      /* differs in a child of the child that shares its memory */
	uint64_t token; /* differs in a child of the child that has a copy of its memory */
	int may_open;   /* whether the process may open files */
} reporter;

/* A line of /proc/self/maps. */
struct map_line {
	uintptr_t start, end, offset, inode;
	const char *name; /* empty if the line has none */
};

static unsigned digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	return 16;
}

static const char *parse_number(const char *s, unsigned base, uintptr_t *value)
{
	for (*value = 0;; s++) {
		unsigned digit = digit_of(*s);

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

/* The fields are: start-end permissions offset device inode name */
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

/* Records the file of the instruction, and those of its callers, as far as the line's mapping has them. Returns whether it has the instruction. */
static int record_if_here(const char *s, struct shm_crash *r)
{
	static uintptr_t base, inode; /* of the last file whose beginning was seen */
	struct map_line line;
	uintptr_t begin;
	uint32_t i;

	parse_line(s, &line);
	if (line.offset == 0 && line.inode != 0 && line.inode != inode) {
		base = line.start;
		inode = line.inode;
	}
	begin = line.inode != 0 && line.inode == inode ? base : line.start - line.offset;
	for (i = 0; i < r->frames; i++) {
		if (r->frame[i].pc < line.start || r->frame[i].pc >= line.end)
			continue;
		r->frame[i].base = begin;
		r->frame[i].inode = line.inode;
	}
	if (r->pc < line.start || r->pc >= line.end)
		return 0;
	r->base = begin;
	strncpy(r->module, line.name, sizeof(r->module) - 1);
	return 1;
}

/*
 * The parent does not know the libraries that the child has loaded, and may have
 * other files at their addresses. So the child itself finds the module. It uses
 * open and read only.
 */
static void record_module(struct shm_crash *r)
{
	static char read_ahead[4096], line[SHM_MAX_MODULE + 128];
	size_t length = 0;
	ssize_t i, n;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), found = 0;

	if (fd == -1)
		return;
	while ((n = read(fd, read_ahead, sizeof(read_ahead))) > 0) {
		for (i = 0; i < n; i++) {
			if (read_ahead[i] == '\n') {
				line[length] = '\0';
				found |= record_if_here(line, r);
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
	return getpid() == reporter.pid && shm_process_token() == reporter.token;
}

struct shm_crash *shm_record_signal(int sig, const siginfo_t *info, const void *context)
{
	struct shm_crash *r = record;
	uint32_t none = SHM_CRASH_NONE;

	if (!is_reporter() || !__atomic_compare_exchange_n(&r->state, &none, SHM_CRASH_CLAIMED, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return NULL;
	r->sig = sig;
	r->code = info->si_code;
	r->addr = (uintptr_t)info->si_addr;
	r->pc = instruction(context);
	__atomic_store_n(&r->state, SHM_CRASH_RECORDED, __ATOMIC_RELEASE);
	return r;
}

/*
 * Records the signal. SA_RESETHAND has set the default action again, so that the
 * child dies of the signal next. A fault repeats when the instruction runs again.
 * A signal that a process has sent is sent once more.
 */
static void record_crash(int sig, siginfo_t *info, void *context)
{
	int err = errno;
	struct shm_crash *r;

	shm_escape_unwinder();
	r = shm_record_signal(sig, info, context);
	if (r != NULL)
		r->frames = shm_find_frames(r->pc, r->frame);
	if (r != NULL && reporter.may_open)
		record_module(r);
	if (info->si_code <= 0)
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
	errno = err;
}

/* The handler cannot run on a stack that has overflowed. Each child has its own copy. */
static char handler_stack[1 << 16];

void shm_report_to(struct shm_crash *crash, int may_open)
{
	stack_t stack = { .ss_sp = handler_stack, .ss_size = sizeof(handler_stack) };

	record = crash;
	reporter.pid = getpid();
	reporter.token = shm_process_token();
	reporter.may_open = may_open;
	sigaltstack(&stack, NULL);
}

void shm_report_crashes(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct sigaction action = { .sa_sigaction = record_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND };
	size_t i;

	for (i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaction(sigs[i], &action, NULL);
}
