//go:build linux && cgo

package ctest

// #include "object.h"
import "C"

import "forkshm.example/shm"

// What children do: see object.h.
var (
	Object = shm.ChildFunc(C.child_object)
	Follow = shm.ChildFunc(C.child_follow)
	Last   = shm.ChildFunc(C.child_last)
	Under  = shm.ChildFunc(C.child_under)
	Over   = shm.ChildFunc(C.child_over)
	Store  = shm.ChildFunc(C.child_store)
)
