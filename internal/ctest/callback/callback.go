// Package callback goes to C and back, for the tests of live forks.
package callback

/*
#cgo LDFLAGS: -lpthread

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

extern void shmCallBack(uintptr_t id);

static void *call_back(void *id)
{
	shmCallBack((uintptr_t)id);
	return NULL;
}

static void call(uintptr_t id) { call_back((void *)id); }

static int call_on_thread(uintptr_t id)
{
	pthread_t thread;
	int err = pthread_create(&thread, NULL, call_back, (void *)id);

	return err != 0 ? err : pthread_join(thread, NULL);
}

static void sleep_us(int us) { usleep(us); }
*/
import "C"

import (
	"runtime/cgo"
	"syscall"
	"time"
)

//export shmCallBack
func shmCallBack(id C.uintptr_t) { cgo.Handle(id).Value().(func())() }

// Call calls fn from C.
func Call(fn func()) {
	h := cgo.NewHandle(fn)
	defer h.Delete()
	C.call(C.uintptr_t(h))
}

// CallOnThread calls fn from C, on a thread of C's own.
func CallOnThread(fn func()) error {
	h := cgo.NewHandle(fn)
	defer h.Delete()
	if err := C.call_on_thread(C.uintptr_t(h)); err != 0 {
		return syscall.Errno(err)
	}
	return nil
}

// Sleep sleeps in C.
func Sleep(d time.Duration) { C.sleep_us(C.int(d.Microseconds())) }
