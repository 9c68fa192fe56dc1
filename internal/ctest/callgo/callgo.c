#include "callgo.h"

#include <pthread.h>

extern int shmExportedGo(int);

int child_calls_go(void *addr, size_t length)
{
	(void)addr;
	(void)length;
	return shmExportedGo(41);
}

static void *call_go(void *unused)
{
	(void)unused;
	shmExportedGo(42);
	return NULL;
}

int child_calls_go_on_thread(void *addr, size_t length)
{
	pthread_t thread;

	(void)addr;
	(void)length;
	if (pthread_create(&thread, NULL, call_go, NULL) != 0)
		return 97;
	pthread_join(thread, NULL);
	return 98;
}
