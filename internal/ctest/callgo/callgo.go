//go:build linux && cgo

// Package callgo has functions for children that call Go, which no child can.
package callgo

/*
#include "callgo.h"
*/
import "C"

import (
	"sync/atomic"

	"forkshm.example/shm"
)

var (
	Child         = shm.ChildFunc(C.child_calls_go)
	ChildOnThread = shm.ChildFunc(C.child_calls_go_on_thread)
)

var here atomic.Int32

// Here returns the sum of what Go was called with, in this process.
func Here() int { return int(here.Load()) }

//export shmExportedGo
func shmExportedGo(n C.int) C.int { return C.int(here.Add(int32(n))) }

// Call calls Go from C, in this process.
func Call() int { return int(C.child_calls_go(nil, 0)) }
