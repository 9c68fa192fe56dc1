/*
 * The C twin: runs a script of system calls, one a line of standard input, and
 * prints what each came to. twin_test.go runs the same scripts through the Go
 * calls, and both must print the same. The commands, where ADDR is a number, or
 * a register's name with an offset ("a", "a+4096"):
 *
 *	mmap R ADDR LENGTH PROT FLAGS SOURCE   SOURCE: anon, /dev/zero, /dev/zero:ro, none,
 *	                                       memfd: of 4 pages
 *	munmap ADDR LENGTH
 *	mremap R ADDR OLD NEW FLAGS ADDR
 *	mprotect ADDR LENGTH PROT
 *	madvise ADDR LENGTH ADVICE
 *	mlock ADDR LENGTH, munlock ADDR LENGTH
 *	rlimit RESOURCE N                      as: N bytes more than now; memlock, nofile, nproc
 *	setuid ID
 *	set ADDR BYTE, get ADDR
 *	maps ADDR                              the permissions and the name there
 *	child FUNCTION ADDR NUMBER             forks, and waits for it
 *	spawn R FUNCTION ADDR NUMBER           forks
 *	kill R SIGNAL
 *	echo WORD...
 *	waitpid R OPTIONS                      R may be "none": a pid that is no child
 *
 * What the methods of a Mapping do, by the calls that they are for:
 *
 *	map R LENGTH SHARING SOURCE            SHARING: 1 shared, 2 private, as mmap has them
 *	resize R LENGTH FLAGS                  FLAGS: mremap's; a shared memfd is made as long first
 *	moveto R R                             onto the second, of which nothing is left
 *	protect R PROT
 *	advise R OFFSET LENGTH ADVICE
 *	lock R, unlock R
 *	close R
 *	sum R                                  its length, and a sum of its bytes
 *
 * Numbers are C's: 0x is hexadecimal. Flags are numbers too: the test fills names in.
 */
#define _GNU_SOURCE
#include "../children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	char *addr;
	pid_t pid;
	size_t length; /* of a map */
	int fd, shared;
} regs[26];

static char *words[16];

static void *address(const char *w)
{
	if (*w < 'a' || *w > 'z')
		return (void *)strtoul(w, NULL, 0);
	return regs[*w - 'a'].addr + (w[1] == '+' ? strtoul(w + 2, NULL, 0) : 0);
}

static long number(const char *w)
{
	return (long)strtoull(w, NULL, 0);
}

/* The test puts the name for the number: only glibc's C knows it. */
static void print_errno(void)
{
	printf("errno %d\n", errno);
}

/* The kernel's own, as Go has it: musl's rounds the address down to a page. */
static int raw_mprotect(void *addr, size_t length, int prot)
{
	return (int)syscall(SYS_mprotect, addr, length, prot);
}

static void outcome(int failed)
{
	if (failed)
		print_errno();
	else
		printf("ok\n");
}

/* Where it went is told only as far as the kernel has no choice. */
static void placed(int reg, char *p, char *asked, int exact)
{
	if (p == MAP_FAILED) {
		print_errno();
		return;
	}
	regs[reg].addr = p;
	printf("ok%s\n", !exact ? "" : p == asked ? " there" : " elsewhere");
}

static void do_mmap(void)
{
	const char *source = words[6];
	int flags = (int)number(words[5]), fd = -1;
	char *asked = address(words[2]), *p;

	if (strcmp(source, "anon") == 0)
		flags |= MAP_ANONYMOUS;
	else if (strcmp(source, "/dev/zero") == 0)
		fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	else if (strcmp(source, "/dev/zero:ro") == 0)
		fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	else if (strcmp(source, "memfd") == 0) {
		fd = memfd_create("twin", MFD_CLOEXEC);
		if (ftruncate(fd, 0x4000) == -1)
			exit(1);
	}
	p = mmap(asked, (size_t)number(words[3]), (int)number(words[4]), flags, fd, 0);
	placed(*words[1] - 'a', p, asked, asked != NULL);
	if (fd != -1)
		close(fd);
}

static void do_mremap(void)
{
	int flags = (int)number(words[5]);
	char *old = address(words[2]), *new = address(words[6]);
	char *p = mremap(old, (size_t)number(words[3]), (size_t)number(words[4]), flags, new);

	placed(*words[1] - 'a', p, flags & MREMAP_FIXED ? new : old, flags == 0 || flags & MREMAP_FIXED);
}

static void do_byte(int get)
{
	unsigned char c = get ? 0 : (unsigned char)number(words[2]);
	struct iovec local = { &c, 1 }, remote = { address(words[1]), 1 };
	ssize_t n = get ? process_vm_readv(getpid(), &local, 1, &remote, 1, 0)
			: process_vm_writev(getpid(), &local, 1, &remote, 1, 0);

	if (n == 1 && get)
		printf("%d\n", c);
	else
		outcome(n != 1);
}

static void do_maps(void)
{
	unsigned long addr = (unsigned long)address(words[1]), from, to;
	char line[512], perms[8], name[256];
	FILE *f = fopen("/proc/self/maps", "r");

	while (fgets(line, sizeof(line), f) != NULL) {
		name[0] = '\0';
		sscanf(line, "%lx-%lx %7s %*s %*s %*s %255[^\n]", &from, &to, perms, name);
		if (from <= addr && addr < to) {
			printf("%s %s\n", perms, name);
			fclose(f);
			return;
		}
	}
	fclose(f);
	printf("nothing\n");
}

static void do_map(void)
{
	const char *source = words[4];
	size_t length = (size_t)number(words[2]);
	int reg = *words[1] - 'a', flags = (int)number(words[3]), fd = -1, failed = 0;

	if (strcmp(source, "anon") == 0) {
		flags |= MAP_ANONYMOUS;
	} else if (strcmp(source, "/dev/zero") == 0) {
		failed = (fd = open("/dev/zero", O_RDWR | O_CLOEXEC)) == -1;
	} else {
		failed = (fd = memfd_create("shm", MFD_CLOEXEC)) == -1 || ftruncate(fd, (off_t)length) == -1;
	}
	if (!failed) {
		regs[reg].addr = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);
		failed = regs[reg].addr == MAP_FAILED;
	}
	outcome(failed);
	regs[reg].length = length;
	regs[reg].shared = flags & MAP_SHARED;
	regs[reg].fd = strcmp(source, "memfd") == 0 ? fd : -1;
	if (fd != -1 && regs[reg].fd == -1)
		close(fd);
}

static void do_resize(void)
{
	int reg = *words[1] - 'a';
	size_t length = (size_t)number(words[2]);
	char *p;

	if (regs[reg].fd != -1 && length != 0 && (regs[reg].shared || length > regs[reg].length) && ftruncate(regs[reg].fd, (off_t)length) == -1) {
		outcome(1);
		return;
	}
	p = mremap(regs[reg].addr, regs[reg].length, length, (int)number(words[3]), NULL);
	outcome(p == MAP_FAILED);
	if (p != MAP_FAILED) {
		regs[reg].addr = p;
		regs[reg].length = length;
	}
}

static void do_moveto(void)
{
	int reg = *words[1] - 'a', to = *words[2] - 'a';
	size_t page = (size_t)sysconf(_SC_PAGESIZE), end = (regs[reg].length + page - 1) / page * page;
	char *p = mremap(regs[reg].addr, regs[reg].length, regs[reg].length, MREMAP_MAYMOVE | MREMAP_FIXED, regs[to].addr);

	if (p != MAP_FAILED) {
		regs[reg].addr = p;
		if (regs[to].length > end)
			munmap(p + end, regs[to].length - end);
		if (regs[to].fd != -1)
			close(regs[to].fd);
		regs[to].fd = -1;
	}
	outcome(p == MAP_FAILED);
}

static void do_close(void)
{
	int reg = *words[1] - 'a';

	if (regs[reg].fd != -1)
		close(regs[reg].fd);
	regs[reg].fd = -1;
	outcome(munmap(regs[reg].addr, regs[reg].length) == -1);
}

static void do_sum(void)
{
	int reg = *words[1] - 'a';
	size_t n = regs[reg].length;
	unsigned char *copy = malloc(n);
	struct iovec local = { copy, n }, remote = { regs[reg].addr, n };
	ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	unsigned sum = 0;

	if (got == -1) {
		outcome(1);
	} else {
		for (ssize_t i = 0; i < got; i++)
			sum = sum * 31 + copy[i];
		printf("%zd of %zu: %u\n", got, n, sum);
	}
	free(copy);
}

static void do_rlimit(void)
{
	static const struct {
		const char *name;
		int resource;
	} all[] = { { "as", RLIMIT_AS }, { "memlock", RLIMIT_MEMLOCK }, { "nofile", RLIMIT_NOFILE }, { "nproc", RLIMIT_NPROC } };
	rlim_t n = (rlim_t)number(words[2]);
	struct rlimit limit;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (strcmp(words[1], all[i].name) != 0)
			continue;
		if (all[i].resource == RLIMIT_AS) {
			unsigned long now = 0;
			FILE *f = fopen("/proc/self/statm", "r");

			if (f == NULL || fscanf(f, "%lu", &now) != 1)
				exit(1);
			fclose(f);
			n += now * (rlim_t)sysconf(_SC_PAGESIZE);
		}
		getrlimit(all[i].resource, &limit);
		limit.rlim_cur = n;
		outcome(setrlimit(all[i].resource, &limit) == -1);
		return;
	}
	printf("no limit %s\n", words[1]);
}

static int (*function(const char *name))(void *, size_t)
{
	static const struct {
		const char *name;
		int (*run)(void *, size_t);
	} all[] = {
		{ "exit", child_exit }, { "read", child_read }, { "write", child_write }, { "swap", child_swap },
		{ "raise", child_raise }, { "dump", child_dump }, { "pause", child_pause }, { "chain", child_chain },
		{ "unmap", child_unmap }, { "remap", child_remap }, { "threads", child_threads }, { "fresh", child_fresh },
		{ "malloc", child_malloc }, { "locked", child_locked },
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(name, all[i].name) == 0)
			return all[i].run;
	fprintf(stderr, "twin: no function %s\n", name);
	exit(2);
}

static pid_t spawn(char **w)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(function(w[0])(address(w[1]), (size_t)number(w[2])));
	return pid;
}

static void wait_for(pid_t pid, int options)
{
	int status = 0;
	pid_t got = pid == -1 ? -1 : waitpid(pid, &status, options);

	if (pid == -1 || got == -1)
		outcome(1);
	else if (got == 0)
		printf("running\n");
	else
		printf("status 0x%x\n", (unsigned)status);
}

int main(void)
{
	char line[512];
	sigset_t none;

	/* What is ignored or blocked is inherited: the twin is not to depend on who ran it. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		signal(sig, SIG_DFL);

	while (fgets(line, sizeof(line), stdin) != NULL) {
		int n = 0;
		for (char *w = strtok(line, " \n"); w != NULL && n < 15; w = strtok(NULL, " \n"))
			words[n++] = w;
		words[n] = NULL;
		if (n == 0)
			continue;
		if (strcmp(words[0], "echo") == 0)
			puts(words[1]);
		else if (strcmp(words[0], "mmap") == 0)
			do_mmap();
		else if (strcmp(words[0], "munmap") == 0)
			outcome(munmap(address(words[1]), (size_t)number(words[2])) == -1);
		else if (strcmp(words[0], "mremap") == 0)
			do_mremap();
		else if (strcmp(words[0], "mprotect") == 0)
			outcome(raw_mprotect(address(words[1]), (size_t)number(words[2]), (int)number(words[3])) == -1);
		else if (strcmp(words[0], "madvise") == 0)
			outcome(madvise(address(words[1]), (size_t)number(words[2]), (int)number(words[3])) == -1);
		else if (strcmp(words[0], "mlock") == 0)
			outcome(mlock(address(words[1]), (size_t)number(words[2])) == -1);
		else if (strcmp(words[0], "munlock") == 0)
			outcome(munlock(address(words[1]), (size_t)number(words[2])) == -1);
		else if (strcmp(words[0], "rlimit") == 0)
			do_rlimit();
		else if (strcmp(words[0], "setuid") == 0)
			outcome(setuid((uid_t)number(words[1])) == -1);
		else if (strcmp(words[0], "map") == 0)
			do_map();
		else if (strcmp(words[0], "resize") == 0)
			do_resize();
		else if (strcmp(words[0], "moveto") == 0)
			do_moveto();
		else if (strcmp(words[0], "protect") == 0)
			outcome(raw_mprotect(address(words[1]), regs[*words[1] - 'a'].length, (int)number(words[2])) == -1);
		else if (strcmp(words[0], "advise") == 0)
			outcome(madvise((char *)address(words[1]) + number(words[2]), (size_t)number(words[3]), (int)number(words[4])) == -1);
		else if (strcmp(words[0], "lock") == 0)
			outcome(mlock(address(words[1]), regs[*words[1] - 'a'].length) == -1);
		else if (strcmp(words[0], "unlock") == 0)
			outcome(munlock(address(words[1]), regs[*words[1] - 'a'].length) == -1);
		else if (strcmp(words[0], "close") == 0)
			do_close();
		else if (strcmp(words[0], "sum") == 0)
			do_sum();
		else if (strcmp(words[0], "set") == 0)
			do_byte(0);
		else if (strcmp(words[0], "get") == 0)
			do_byte(1);
		else if (strcmp(words[0], "maps") == 0)
			do_maps();
		else if (strcmp(words[0], "child") == 0)
			wait_for(spawn(words + 1), 0);
		else if (strcmp(words[0], "spawn") == 0)
			outcome((regs[*words[1] - 'a'].pid = spawn(words + 2)) == -1);
		else if (strcmp(words[0], "kill") == 0)
			outcome(kill(regs[*words[1] - 'a'].pid, (int)number(words[2])) == -1);
		else if (strcmp(words[0], "waitpid") == 0)
			wait_for(strcmp(words[1], "none") == 0 ? getpid() : regs[*words[1] - 'a'].pid, (int)number(words[2]));
		else
			printf("no command %s\n", words[0]);
	}
	return 0;
}
