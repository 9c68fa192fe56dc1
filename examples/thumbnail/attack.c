#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "decoder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

int poisoned;

static int failed(struct shm_out *out, const char *what)
{
	return answer(out, REFUSED, "%s: %s", what, strerror(errno));
}

static int read_passwords(struct shm_out *out)
{
	char text[4096];
	int fd = open("/etc/passwd", O_RDONLY);
	ssize_t n = fd != -1 ? read(fd, text, sizeof(text)) : -1;

	if (n == -1)
		return failed(out, "open");
	close(fd);
	return answer(out, SUCCEEDED, "read %zd bytes of /etc/passwd", n);
}

/* No answer is needed: a refused connection has reached the other machine, too. */
static int call_home(struct shm_out *out)
{
	struct sockaddr_in home = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), result;

	inet_pton(AF_INET, "127.0.0.1", &home.sin_addr);
	if (fd == -1)
		return failed(out, "socket");
	result = connect(fd, (struct sockaddr *)&home, sizeof(home));
	close(fd);
	if (result == -1 && errno != ECONNREFUSED)
		return failed(out, "connect");
	return answer(out, SUCCEEDED, "reached a port of 127.0.0.1");
}

static int make_process(struct shm_out *out)
{
	pid_t pid = fork();

	if (pid == -1)
		return failed(out, "fork");
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	return answer(out, SUCCEEDED, "made a process of its own");
}

/* The server's memory, at an address that server and child both have. */
static int read_server(struct shm_out *out)
{
	static char secret[64], here[64];
	const struct iovec to = { here, sizeof(here) }, from = { secret, sizeof(secret) };
	ssize_t n = process_vm_readv(getppid(), &to, 1, &from, 1, 0);

	if (n == -1)
		return failed(out, "process_vm_readv");
	return answer(out, SUCCEEDED, "read %zd bytes of the server's memory", n);
}

static int signal_server(struct shm_out *out)
{
	if (kill(getppid(), SIGCONT) == -1)
		return failed(out, "kill");
	return answer(out, SUCCEEDED, "sent the server a signal");
}

static int write_astray(struct shm_out *out)
{
	(void)out;
	*(volatile int *)0x1000 = 1;
	return 0;
}

static int fail_an_assertion(struct shm_out *out)
{
	(void)out;
	abort();
}

static int loop(struct shm_out *out)
{
	volatile int forever = 1;

	while (forever)
		;
	return answer(out, SUCCEEDED, "got out");
}

/* Stays in the child, and answers for what others send. */
static int poison(struct shm_out *out)
{
	poisoned = 1;
	return answer(out, REFUSED, "poisoned");
}

int attack(const char *name, size_t length, struct shm_out *out)
{
	static const struct {
		const char *name;
		int (*run)(struct shm_out *out);
	} attacks[] = {
		{ "open", read_passwords },
		{ "connect", call_home },
		{ "fork", make_process },
		{ "peek", read_server },
		{ "signal", signal_server },
		{ "write", write_astray },
		{ "abort", fail_an_assertion },
		{ "loop", loop },
		{ "poison", poison },
	};
	size_t i;

	for (i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++)
		if (strlen(attacks[i].name) == length && memcmp(attacks[i].name, name, length) == 0)
			return attacks[i].run(out);
	return answer(out, REFUSED, "no such attack");
}
