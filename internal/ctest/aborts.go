//go:build linux && cgo

package ctest

// #include "aborts.h"
import "C"

import "forkshm.example/shm"

// What children do that the C library ends: see aborts.h.
var (
	Abort     = shm.ChildFunc(C.child_abort)
	BadString = shm.ChildFunc(C.child_bad_string)
	AbortOn   = shm.ChildFunc(C.child_abort_on)
	DoAbort   = shm.DoFunc(C.do_abort)
)

// HasUnwinder says whether Crash.Callers is to be expected of the C library.
func HasUnwinder() bool { return C.has_unwinder() != 0 }
