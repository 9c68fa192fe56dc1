//go:build linux && cgo

package ctest

// #include "spin.h"
import "C"

import "forkshm.example/shm"

// What children do with the processor: see spin.h.
var (
	Spin        = shm.ChildFunc(C.child_spin)
	SpinThreads = shm.ChildFunc(C.child_spin_threads)
)
