//go:build linux && cgo

// Package sharedc holds what the tests of package shared need of C.
package sharedc

/*
#cgo CFLAGS: -std=gnu11 -D_GNU_SOURCE -fno-plt
#include "gate.h"
#include "mutex.h"

enum {
	offset_act = offsetof(struct mutex_area, act),
	offset_others = offsetof(struct mutex_area, others),
};
*/
import "C"

import (
	"unsafe"

	"forkshm.example/shm"
	_ "forkshm.example/shm/shared" // has the functions that the children call
)

// What children do: see gate.h and mutex.h.
var (
	Answer      = shm.ChildFunc(C.child_answer)
	MutexActs   = shm.ChildFunc(C.child_mutex_acts)
	CountLocked = shm.ChildFunc(C.child_count_locked)
)

// GatePair is struct gate_pair.
type GatePair struct {
	Request       [2]uint32 // a gate
	Asked, Rounds uint32
	Reply         [2]uint32
	Answered      uint32
}

// These constants are enum mutex_act.
const (
	MutexLock       = C.MUTEX_LOCK
	MutexTryLock    = C.MUTEX_TRYLOCK
	MutexConsistent = C.MUTEX_CONSISTENT
	MutexUnlock     = C.MUTEX_UNLOCK
	MutexTimedLock  = C.MUTEX_TIMED_LOCK
	MutexPause      = C.MUTEX_PAUSE
	MutexNext       = C.MUTEX_NEXT
)

// MutexArea is struct mutex_area.
type MutexArea struct {
	Lock    [64]byte
	Counter uint64
	Inside  uint32
	Rounds  uint32
	Done    uint32
	Act     [C.MUTEX_ACTS]int32
	Result  [C.MUTEX_ACTS]int32
	_       [C.offset_others - C.offset_act - 2*4*C.MUTEX_ACTS]byte
	Others  [20][64]byte
}

// OthersOffset is the offset of MutexArea.Others.
const OthersOffset = C.offset_others

// The struct is as large as in C: another index than 0 does not compile.
var _ = [1]struct{}{}[unsafe.Sizeof(MutexArea{})-C.sizeof_struct_mutex_area]
