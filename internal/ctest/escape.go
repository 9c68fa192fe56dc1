//go:build linux && cgo

package ctest

/*
#cgo LDFLAGS: -lm
#include "escape.h"
*/
import "C"

import "forkshm.example/shm"

// What children do in a sandbox: see escape.h.
var (
	Escape       = shm.ChildFunc(C.child_escape)
	EscapeAll    = shm.ChildFunc(C.child_escape_all)
	RawCall      = shm.ChildFunc(C.child_call)
	WriteAlias   = shm.ChildFunc(C.child_write_alias)
	WriteLonger  = shm.ChildFunc(C.child_write_longer)
	Compute      = shm.ChildFunc(C.child_compute)
	SumByThreads = shm.ChildFunc(C.child_sum_by_threads)
)

// An Attempt is what a child tries in order to get out of its sandbox.
type Attempt struct{ What, Call string }

// Attempts returns all attempts. Escape takes an index of them.
func Attempts() (all []Attempt) {
	for i := 0; ; i++ {
		e := C.escape_at(C.int(i))
		if e == nil {
			return all
		}
		all = append(all, Attempt{C.GoString(e.what), C.GoString(e.call)})
	}
}
