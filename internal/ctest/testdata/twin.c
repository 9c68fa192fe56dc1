/*
 * The C twin: runs a script of system calls, one a line of standard input, and
 * prints what each came to. twin_test.go runs the same scripts through the Go
 * calls, and both must print the same. The commands, where ADDR is a number, or
 * a register's name with an offset ("a", "a+4096"):
 *
 *	mmap R ADDR LENGTH PROT FLAGS SOURCE   SOURCE: anon, /dev/zero, /dev/zero:ro, none
 *	munmap ADDR LENGTH
 *	mremap R ADDR OLD NEW FLAGS ADDR
 *	mprotect ADDR LENGTH PROT
 *	madvise ADDR LENGTH ADVICE
 *	set ADDR BYTE, get ADDR
 *	maps ADDR                              the permissions and the name there
 *	child FUNCTION ADDR NUMBER             forks, and waits for it
 *	spawn R FUNCTION ADDR NUMBER           forks
 *	kill R SIGNAL
 *	echo WORD...
 *	waitpid R OPTIONS                      R may be "none": a pid that is no child
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
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	char *addr;
	pid_t pid;
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

static void outcome(int failed)
{
	if (failed)
		printf("%s\n", strerrorname_np(errno));
	else
		printf("ok\n");
}

/* Where it went is told only as far as the kernel has no choice. */
static void placed(int reg, char *p, char *asked, int exact)
{
	if (p == MAP_FAILED) {
		printf("%s\n", strerrorname_np(errno));
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

static int (*function(const char *name))(void *, size_t)
{
	static const struct {
		const char *name;
		int (*run)(void *, size_t);
	} all[] = {
		{ "exit", child_exit }, { "read", child_read }, { "write", child_write }, { "swap", child_swap },
		{ "raise", child_raise }, { "dump", child_dump }, { "pause", child_pause }, { "chain", child_chain },
		{ "unmap", child_unmap }, { "remap", child_remap }, { "threads", child_threads }, { "fresh", child_fresh },
		{ "malloc", child_malloc },
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
	pid_t got = waitpid(pid, &status, options);

	if (got == -1)
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
			outcome(mprotect(address(words[1]), (size_t)number(words[2]), (int)number(words[3])) == -1);
		else if (strcmp(words[0], "madvise") == 0)
			outcome(madvise(address(words[1]), (size_t)number(words[2]), (int)number(words[3])) == -1);
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
