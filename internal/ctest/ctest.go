//go:build linux && cgo

// Package ctest holds what the tests need of C, since a _test.go file cannot
// import "C": functions for children to run, and the C side of benchmarks.
package ctest

/*
#cgo CFLAGS: -std=gnu11 -D_GNU_SOURCE -fno-plt
#include <stdlib.h>
#include "children.h"
#include "loops.h"
*/
import "C"

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

// What children do: see children.h.
var (
	Exit      = shm.ChildFunc(C.child_exit)
	Status    = shm.ChildFunc(C.child_status)
	Read      = shm.ChildFunc(C.child_read)
	Write     = shm.ChildFunc(C.child_write)
	Swap      = shm.ChildFunc(C.child_swap)
	Raise     = shm.ChildFunc(C.child_raise)
	Signal    = shm.ChildFunc(C.child_signal)
	Dump      = shm.ChildFunc(C.child_dump)
	Pause     = shm.ChildFunc(C.child_pause)
	Until     = shm.ChildFunc(C.child_until)
	Chain     = shm.ChildFunc(C.child_chain)
	Count     = shm.ChildFunc(C.child_count)
	Increment = shm.ChildFunc(C.child_increment)
	FirstLast = shm.ChildFunc(C.child_first_last)
	Unmap     = shm.ChildFunc(C.child_unmap)
	Remap     = shm.ChildFunc(C.child_remap)
	Threads   = shm.ChildFunc(C.child_threads)
	Parent    = shm.ChildFunc(C.child_parent)
	Fresh     = shm.ChildFunc(C.child_fresh)
	Locked    = shm.ChildFunc(C.child_locked)
	Malloc    = shm.ChildFunc(C.child_malloc)
	Crash     = shm.ChildFunc(C.child_crash)
	Add       = shm.ChildFunc(C.child_add)
	TouchGo   = shm.ChildFunc(C.child_touch_go)
	FDs       = shm.ChildFunc(C.child_fds)
	Limits    = shm.ChildFunc(C.child_limits)
	CloseAll  = shm.ChildFunc(C.child_close_all)
	Sleep     = shm.ChildFunc(C.child_sleep)
	Pid       = shm.ChildFunc(C.child_pid)
	Plugin    = shm.ChildFunc(C.child_plugin)
	Leave     = shm.ChildFunc(C.child_leave)
	Grief     = shm.ChildFunc(C.child_grief)
	Netns     = shm.ChildFunc(C.child_netns)
	Traced    = shm.ChildFunc(C.child_traced)
	Open      = shm.ChildFunc(C.child_open)
	Family    = shm.ChildFunc(C.child_family)
	Stack     = shm.ChildFunc(C.child_stack)
	Clock     = shm.ChildFunc(C.child_clock)
)

// IsGlibc says whether the C library is glibc.
func IsGlibc() bool { return C.is_glibc() != 0 }

// MapLoop maps, touches and unmaps length bytes n times, as the library does,
// in C.
func MapLoop(n int, devZero bool, sharing shm.Sharing, length int) error {
	var dz C.int
	if devZero {
		dz = 1
	}
	return result(C.loop_map(C.long(n), dz, C.int(flags(sharing)), C.size_t(length)))
}

// ForkLoop forks a child that exits, and reaps it, n times.
func ForkLoop(n int) error { return result(C.loop_fork(C.long(n))) }

// Now is CLOCK_MONOTONIC, in nanoseconds, as Clock stores it.
func Now() int64 { return int64(C.clock_now()) }

// PingPong has a child and this process wake each other by a futex, n times
// each.
func PingPong(n int) error { return result(C.loop_ping_pong(C.long(n))) }

// AddHere is child_add, by a plain cgo call.
func AddHere(m *shm.Mapping, length int) int { return int(C.child_add(m.Addr(), C.size_t(length))) }

// GrowLoop grows memory from first to last bytes by doubling, touching each
// page, n times, by realloc(3).
func GrowLoop(n, first, last int) error {
	return result(C.loop_grow(C.long(n), C.size_t(first), C.size_t(last)))
}

// Copy is memcpy(3).
func Copy(dst, src []byte) {
	C.copy_memory(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), C.size_t(len(src)))
}

// Interrupt sends the thread tid signals that interrupt its system calls (no
// SA_RESTART) until stop is called.
func Interrupt(tid int) (stop func(), err error) { return interrupt(tid, nil) }

// InterruptGroup sends this process group signals until stop is called. Should
// their handler run in a child, it stores 1 at astray.
func InterruptGroup(astray unsafe.Pointer) (stop func(), err error) { return interrupt(0, astray) }

func interrupt(tid int, astray unsafe.Pointer) (stop func(), err error) {
	if err := result(C.interrupt_start(C.int(tid), (*C.int)(astray))); err != nil {
		return nil, err
	}
	return func() { C.interrupt_stop() }, nil
}

// IgnoreChildren sets SIGCHLD to SIG_IGN, or back.
func IgnoreChildren(yes bool) {
	var ignore C.int
	if yes {
		ignore = 1
	}
	C.ignore_children(ignore)
}

// AtExit has C's exit(3), called in a child, store 1 at ran.
func AtExit(ran unsafe.Pointer) error { return result(C.at_exit_store((*C.int)(ran))) }

// PluginHere is child_plugin, by a plain cgo call.
func PluginHere(m *shm.Mapping) int { return int(C.child_plugin(m.Addr(), C.size_t(m.Len()))) }

// Function loads a shared library, keeps it, and returns its function of this
// name, or nil.
func Function(library, name string) shm.ChildFunc {
	l, n := C.CString(library), C.CString(name)
	defer C.free(unsafe.Pointer(l))
	defer C.free(unsafe.Pointer(n))
	return shm.ChildFunc(C.load_function(l, n))
}

// Load loads a shared library, and keeps it.
func Load(path string) bool {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	return C.load_library(p) == 0
}

func flags(sharing shm.Sharing) int {
	if sharing == shm.Shared {
		return unix.MAP_SHARED
	}
	return unix.MAP_PRIVATE
}

func result(e C.int) error {
	if e == 0 {
		return nil
	}
	return unix.Errno(e)
}
