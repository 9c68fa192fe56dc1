/*
 * What a technique's memory does, in C: one line a row, "row<TAB>cell". The
 * program behaviour in Go prints the same rows, by the library.
 *
 *	behaviour anonymous|devzero|memfd private|shared
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_SEAL_GROW 4
#endif

static const char *technique, *sharing;
static size_t page;

struct memory {
	char *at;
	size_t length;
	int fd; /* of a memfd, or -1 */
};

static const char *errname(int err)
{
	static char number[32];
	static const struct { int err; const char *name; } names[] = {
		{ EINVAL, "EINVAL" }, { EACCES, "EACCES" }, { ENOMEM, "ENOMEM" }, { EFAULT, "EFAULT" }, { EMFILE, "EMFILE" },
		{ ENOENT, "ENOENT" }, { EPERM, "EPERM" }, { EBADF, "EBADF" }, { ENOSYS, "ENOSYS" }, { EAGAIN, "EAGAIN" },
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].err == err)
			return names[i].name;
	snprintf(number, sizeof(number), "errno %d", err);
	return number;
}

static void row(const char *name, const char *cell) { printf("%s\t%s\n", name, cell); }

static const char *yes_or_errno(int result) { return result == 0 ? "yes" : errname(errno); }

/* Maps; returns 0 or an errno value. */
static int map(struct memory *m, size_t length)
{
	int flags = strcmp(sharing, "shared") == 0 ? MAP_SHARED : MAP_PRIVATE, fd = -1, err = 0;

	m->length = length;
	m->fd = -1;
	if (strcmp(technique, "devzero") == 0) {
		if ((fd = open("/dev/zero", O_RDWR | O_CLOEXEC)) == -1)
			return errno;
	} else if (strcmp(technique, "memfd") == 0) {
		if ((fd = memfd_create("shm", MFD_CLOEXEC | MFD_ALLOW_SEALING)) == -1)
			return errno;
		if (ftruncate(fd, (off_t)length) == -1)
			return errno;
		m->fd = fd;
	} else
		flags |= MAP_ANONYMOUS;
	m->at = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (m->at == MAP_FAILED)
		err = errno;
	if (fd != -1 && m->fd == -1)
		close(fd);
	return err;
}

static void unmap(struct memory *m)
{
	munmap(m->at, m->length);
	if (m->fd != -1)
		close(m->fd);
}

static struct memory new_memory(size_t length)
{
	struct memory m;
	int err = map(&m, length);

	if (err != 0) {
		fprintf(stderr, "behaviour: map: %s\n", strerror(err));
		exit(2);
	}
	return m;
}

/* Runs f in a child: "yes" if it exits 0, "no" if 1, else its signal. */
static const char *in_child(int (*f)(char *), char *at)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(f(at));
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGBUS ? "SIGBUS" : WTERMSIG(status) == SIGSEGV ? "SIGSEGV" : "signal";
	return WEXITSTATUS(status) == 0 ? "yes" : "no";
}

static int touch(char *at) { return *(volatile char *)at = 1, 0; }
static int is_set(char *at) { return *(volatile char *)at != 7; }

/* The line of /proc/self/maps, or the value of a field of smaps, of an address. */
static int find(const char *file, const char *at, const char *field, char *found, size_t size)
{
	FILE *f = fopen(file, "re");
	char line[512];
	unsigned long start, end;
	int ours = 0;

	found[0] = '\0';
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			ours = (unsigned long)at >= start && (unsigned long)at < end;
		if (ours && (field == NULL || strncmp(line, field, strlen(field)) == 0)) {
			snprintf(found, size, "%s", line);
			fclose(f);
			return 1;
		}
	}
	if (f != NULL)
		fclose(f);
	return 0;
}

static void identity(void)
{
	struct memory m = new_memory(page);
	char line[512], name[256] = "", dev[16] = "";
	unsigned long inode = 0;

	find("/proc/self/maps", m.at, NULL, line, sizeof(line));
	sscanf(line, "%*s %*s %*s %15s %lu %255[^\n]", dev, &inode, name);
	row("name in /proc/PID/maps", name[0] ? name : "none");
	row("has an inode", inode != 0 ? "yes" : "no");
	unmap(&m);
}

static void sharing_rows(void)
{
	struct memory m = new_memory(page);
	int to_child[2], to_parent[2], status;
	char c = 0;
	pid_t pid;

	if (pipe(to_child) == -1 || pipe(to_parent) == -1)
		exit(2);
	pid = fork();
	if (pid == 0) {
		if (read(to_child[0], &c, 1) != 1)
			_exit(3);
		status = m.at[0] != 7;
		m.at[1] = 8;
		_exit(status);
	}
	m.at[0] = 7;
	if (write(to_child[1], &c, 1) != 1)
		exit(2);
	waitpid(pid, &status, 0);
	row("child sees the parent's writes", WEXITSTATUS(status) == 0 ? "yes" : "no");
	row("parent sees the child's writes", m.at[1] == 8 ? "yes" : "no");
	close(to_child[0]);
	close(to_child[1]);
	close(to_parent[0]);
	close(to_parent[1]);
	unmap(&m);
}

static void growth(void)
{
	struct memory m = new_memory(page);
	char *p;

	if (m.fd != -1 && strcmp(sharing, "shared") == 0 && ftruncate(m.fd, (off_t)(4 * page)) == -1)
		exit(2);
	if (m.fd != -1 && strcmp(sharing, "private") == 0 && ftruncate(m.fd, (off_t)(4 * page)) == -1)
		exit(2);
	p = mremap(m.at, page, 4 * page, MREMAP_MAYMOVE, NULL);
	if (p == MAP_FAILED)
		row("grows by mremap", errname(errno));
	else {
		m.at = p;
		m.length = 4 * page;
		row("grows by mremap", in_child(touch, p + 2 * page));
	}
	unmap(&m);

	m = new_memory(4 * page);
	m.at[3 * page] = 7;
	p = mremap(m.at, 4 * page, page, 0, NULL);
	p = p == MAP_FAILED ? p : mremap(p, page, 4 * page, MREMAP_MAYMOVE, NULL);
	if (p == MAP_FAILED)
		row("bytes after shrinking and growing again", errname(errno));
	else {
		m.at = p;
		row("bytes after shrinking and growing again", p[3 * page] == 7 ? "kept" : "zero");
	}
	unmap(&m);
}

static void aliases(void)
{
	struct memory m = new_memory(page);
	char *p;

	m.at[0] = 7;
	p = mremap(m.at, 0, page, MREMAP_MAYMOVE, NULL);
	if (p == MAP_FAILED)
		row("mremap of old size 0", errname(errno));
	else {
		row("mremap of old size 0", p[0] == 7 ? "a second view" : "new memory");
		munmap(p, page);
	}
	p = mremap(m.at, page, page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	if (p == MAP_FAILED)
		row("MREMAP_DONTUNMAP", errname(errno));
	else {
		row("MREMAP_DONTUNMAP", p[0] != 7 ? "lost" : m.at[0] == 7 ? "both have the bytes" : "the old place reads zero");
		munmap(p, page);
	}
	unmap(&m);
}

static void advise(const char *name, int advice)
{
	struct memory m = new_memory(page);

	m.at[0] = 7;
	if (madvise(m.at, page, advice) == -1)
		row(name, errname(errno));
	else if (advice == MADV_DONTNEED || advice == MADV_REMOVE)
		row(name, m.at[0] == 7 ? "keeps the bytes" : "reads zero");
	else if (advice == MADV_WIPEONFORK)
		row(name, strcmp(in_child(is_set, m.at), "yes") == 0 ? "no effect" : "the child reads zero");
	else if (advice == MADV_DONTFORK)
		row(name, in_child(is_set, m.at));
	else
		row(name, "yes");
	unmap(&m);
}

static void without_descriptors(void)
{
	struct rlimit none = { 0, 0 }, saved;
	struct memory m;
	int err;

	getrlimit(RLIMIT_NOFILE, &saved);
	none.rlim_max = saved.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	err = map(&m, page);
	setrlimit(RLIMIT_NOFILE, &saved);
	row("maps at the limit of descriptors", err == 0 ? "yes" : errname(err));
	if (err == 0)
		unmap(&m);
}

static long status_kib(const char *field)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, field, strlen(field)) == 0)
			kib = atol(line + strlen(field));
	if (f != NULL)
		fclose(f);
	return kib;
}

static void accounting(void)
{
	static const char *const fields[] = { "RssAnon:", "RssShmem:", "RssFile:" };
	const size_t length = 8 << 20;
	struct memory m = new_memory(length);
	long before[3], most = 0;
	const char *where = "none";
	size_t i;

	for (i = 0; i < 3; i++)
		before[i] = status_kib(fields[i]);
	for (i = 0; i < length; i += page)
		m.at[i] = 1;
	for (i = 0; i < 3; i++) {
		long more = status_kib(fields[i]) - before[i];

		if (more > most) {
			most = more;
			where = fields[i];
		}
	}
	printf("counts as, in /proc/PID/status\t%.*s\n", (int)strcspn(where, ":"), where);
	unmap(&m);
}

static void the_rest(void)
{
	struct memory m = new_memory(page);

	row("may be executable (mprotect)", yes_or_errno(mprotect(m.at, page, PROT_READ | PROT_EXEC)));
	row("has a name of its own (PR_SET_VMA)", yes_or_errno(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, m.at, page, "a name")));
	row("can be locked (mlock)", yes_or_errno(mlock(m.at, page)));
	row("can be sealed, and passed to a stranger", m.fd == -1 ? "no descriptor" : yes_or_errno(fcntl(m.fd, F_ADD_SEALS, F_SEAL_GROW)));
	unmap(&m);
}

static void without_dev(const char *empty)
{
	struct memory m;
	int err;

	if (chroot(empty) == -1) {
		row("maps in a chroot without /dev", "not tried");
		return;
	}
	err = map(&m, page);
	row("maps in a chroot without /dev", err == 0 ? "yes" : errname(err));
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: behaviour technique sharing empty-folder\n");
		return 2;
	}
	technique = argv[1];
	sharing = argv[2];
	page = (size_t)sysconf(_SC_PAGESIZE);
	setvbuf(stdout, NULL, _IOLBF, 0); /* or a child would print it again */
	identity();
	sharing_rows();
	growth();
	aliases();
	advise("MADV_DONTNEED", MADV_DONTNEED);
	advise("MADV_REMOVE", MADV_REMOVE);
	advise("MADV_FREE", MADV_FREE);
	advise("MADV_WIPEONFORK", MADV_WIPEONFORK);
	advise("MADV_DONTFORK: the child has it", MADV_DONTFORK);
	advise("MADV_HUGEPAGE", MADV_HUGEPAGE);
	accounting();
	the_rest();
	without_descriptors();
	without_dev(argv[3]);
	return 0;
}
