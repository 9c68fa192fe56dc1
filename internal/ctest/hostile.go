//go:build linux && cgo

package ctest

// #include "hostile.h"
import "C"

import "forkshm.example/shm"

// Hostile is a child that was taken over. It does what the HostileOrder at its
// address says, and returns 7.
var Hostile = shm.ChildFunc(C.child_hostile)

// ReachReport is a child that looks for its set-up report in what it can map. It returns 1 if it finds
// it, and 0 if not.
var ReachReport = shm.ChildFunc(C.child_reach_report)

// HostileOrder is struct hostile of hostile.h.
type HostileOrder struct {
	Act, End, Offset, Length, Value uint32
	Pages, Stop, Begun              uint32
}

// What a hostile child does: enum hostile_act.
const (
	HostileNothing    = C.HOSTILE_NOTHING
	HostileFill       = C.HOSTILE_FILL
	HostileRandom     = C.HOSTILE_RANDOM
	HostileCopy       = C.HOSTILE_COPY
	HostileFlood      = C.HOSTILE_FLOOD
	HostileShut       = C.HOSTILE_SHUT
	HostileBlock      = C.HOSTILE_BLOCK
	HostileOverrun    = C.HOSTILE_OVERRUN
	HostileLater      = C.HOSTILE_LATER
	HostileGrandchild = C.HOSTILE_GRANDCHILD
)

// And how it goes on then: enum hostile_end.
const (
	HostileReturn = C.HOSTILE_RETURN
	HostilePause  = C.HOSTILE_PAUSE
	HostileAbort  = C.HOSTILE_ABORT
	HostileFault  = C.HOSTILE_FAULT
	HostileExit   = C.HOSTILE_EXIT
	HostileRepeat = C.HOSTILE_REPEAT
)
