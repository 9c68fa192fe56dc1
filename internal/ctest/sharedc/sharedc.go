//go:build linux && cgo

// Package sharedc holds what the tests of package shared need of C.
package sharedc

/*
#cgo CFLAGS: -std=gnu11 -D_GNU_SOURCE -fno-plt
#include "bench.h"
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

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	_ "forkshm.example/shm/shared" // has the functions that the children call
)

// What children do: see gate.h and mutex.h.
var (
	Misuse      = shm.ChildFunc(C.gate_misuse)
	Answer      = shm.ChildFunc(C.gate_answer)
	MutexActs   = shm.ChildFunc(C.child_mutex_acts)
	MutexFail   = shm.ChildFunc(C.child_mutex_fail)
	CountLocked = shm.ChildFunc(C.child_count_locked)
	LockOnce    = shm.ChildFunc(C.child_lock_once)
	CountRW     = shm.ChildFunc(C.child_count_rw)
	CountUnits  = shm.ChildFunc(C.child_count_units)
	HandOver    = shm.ChildFunc(C.child_hand_over)
	Contest     = shm.ChildFunc(C.child_contest)
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
	MutexTimedLock  = C.MUTEX_LOCK + C.TIMED
	MutexPause      = C.MUTEX_PAUSE
	MutexNext       = C.MUTEX_NEXT
	MutexTrace      = C.MUTEX_TRACE
	MutexStop       = C.MUTEX_STOP

	RDLock           = C.RW_RDLOCK
	WRLock           = C.RW_WRLOCK
	RWConsistent     = C.RW_CONSISTENT
	RDUnlock         = C.RW_RDUNLOCK
	WRUnlock         = C.RW_WRUNLOCK
	SemaphoreAcquire = C.SEMAPHORE_ACQUIRE
	SemaphoreRelease = C.SEMAPHORE_RELEASE
	EventWait        = C.EVENT_WAIT
	EventSet         = C.EVENT_SET
	BarrierWait      = C.BARRIER_WAIT
	Timed            = C.TIMED
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

// HandOverArea is struct hand_over.
type HandOverArea struct {
	Lock          [3][64]byte
	Ready, Rounds uint32
	_             [56]byte
}

var _ = [1]struct{}{}[unsafe.Sizeof(HandOverArea{})-C.sizeof_struct_hand_over]

// HandOverHere takes part in a hand-over with a child.
func HandOverHere(a *HandOverArea) error {
	return result(C.hand_over((*C.struct_hand_over)(unsafe.Pointer(a)), 0))
}

// LockLoop locks and unlocks n times in C.
func LockLoop(l *[64]byte, n int) error {
	return result(C.loop_lock((*C.shm_mutex)(unsafe.Pointer(l)), C.long(n)))
}

// RobustLoop is LockLoop with a robust mutex of pthreads.
func RobustLoop(n int) error { return result(C.loop_robust(C.long(n))) }

// HandOverRobust is a hand-over of robust mutexes, n rounds.
func HandOverRobust(n int) error { return result(C.loop_hand_over_robust(C.long(n))) }

func result(e C.int) error {
	if e == 0 {
		return nil
	}
	return unix.Errno(e)
}
