//go:build linux && cgo

package ctest

// #include "server.h"
import "C"

import "forkshm.example/shm"

// What a fork server's children do: see server.h.
var (
	Tid        = shm.ChildFunc(C.child_tid)
	OwnDead    = shm.ChildFunc(C.child_own_dead)
	Heir       = shm.ChildFunc(C.child_heir)
	Forks      = shm.ChildFunc(C.child_forks)
	Warm       = shm.ChildFunc(C.child_warm)
	StopServer = shm.ChildFunc(C.child_stop_server)
	Answer     = shm.ChildFunc(C.child_answer)
	Kill       = shm.ChildFunc(C.child_kill)
	Peek       = shm.ChildFunc(C.child_peek)
	PeekAsUser = shm.ChildFunc(C.child_uid)
	Sockets    = shm.ChildFunc(C.child_sockets)
)

// Functions for ForkServerConfig.Init: see server.h.
var (
	InitWarm   = shm.ChildFunc(C.init_warm)
	InitFail   = shm.ChildFunc(C.init_fail)
	InitCrash  = shm.ChildFunc(C.init_crash)
	InitExit   = shm.ChildFunc(C.init_exit)
	InitThread = shm.ChildFunc(C.init_thread)
	InitJoined = shm.ChildFunc(C.init_joined)
	InitLocked = shm.ChildFunc(C.init_locked)
	InitOnce   = shm.ChildFunc(C.init_once)
	InitSlow   = shm.ChildFunc(C.init_slow)
	InitStop   = shm.ChildFunc(C.init_stop)
)

// CloneAt forks a child that has this process id, and stays until it is killed. The caller reaps it.
func CloneAt(pid int) error { return result(C.clone_at(C.int(pid))) }
