//go:build linux && cgo

package ctest

// #include "do.h"
import "C"

import "forkshm.example/shm"

// What children of pools do with bytes in and bytes out: see do.h.
var (
	DoEcho   = shm.DoFunc(C.do_echo)
	DoFill   = shm.DoFunc(C.do_fill)
	DoShrink = shm.DoFunc(C.do_shrink)
	DoAppend = shm.DoFunc(C.do_append)
	DoFail   = shm.DoFunc(C.do_fail)
	DoCrash  = shm.DoFunc(C.do_crash)
	DoOver   = shm.DoFunc(C.do_over)
	DoBefore = shm.DoFunc(C.do_before)
	DoClaim  = shm.DoFunc(C.do_claim)
	DoDamage = shm.DoFunc(C.do_damage)
	DoPause  = shm.DoFunc(C.do_pause)
	DoExit   = shm.DoFunc(C.do_exit)
	DoLinger = shm.DoFunc(C.do_linger)
	DoPid    = shm.DoFunc(C.do_pid)
	DoMaps   = shm.DoFunc(C.do_maps)
)

// Begin is a child that stores 1 in the int at its address, and stays.
var Begin = shm.ChildFunc(C.child_begin)

// Echo is a child that copies the first half of its memory to the second.
var Echo = shm.ChildFunc(C.child_echo)
