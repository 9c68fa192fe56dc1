//go:build linux && cgo

package ctest

// #include "given.h"
import "C"

import "forkshm.example/shm"

// What children do with their standard files, directory, argument and memory: see given.h.
var (
	Say      = shm.ChildFunc(C.child_say)
	Cat      = shm.ChildFunc(C.child_cat)
	Where    = shm.ChildFunc(C.child_where)
	Arg      = shm.ChildFunc(C.child_arg)
	Take     = shm.ChildFunc(C.child_take)
	Standard = shm.ChildFunc(C.child_standard)
	Leaver   = shm.ChildFunc(C.child_leaver)
	Flood    = shm.ChildFunc(C.child_flood)

	OpenFile = shm.ChildFunc(C.child_open_file)
)

// ArgHere is what shm_arg returns in this process.
func ArgHere() int { return int(C.shm_arg_here()) }
