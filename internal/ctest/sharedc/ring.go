//go:build linux && cgo

package sharedc

/*
#include "ring.h"

enum {
	offset_ring = offsetof(struct ring_area, ring),
	offset_ring_act = offsetof(struct ring_area, act),
};
*/
import "C"

import (
	"unsafe"

	"forkshm.example/shm"
)

// What children do at rings: see ring.h.
var (
	RingActs    = shm.ChildFunc(C.child_ring_acts)
	RingProduce = shm.ChildFunc(C.child_ring_produce)
	RingConsume = shm.ChildFunc(C.child_ring_consume)
	RingEcho    = shm.ChildFunc(C.child_ring_echo)
	Scribble    = shm.ChildFunc(C.child_ring_scribble)
	Upper       = shm.ChildFunc(C.child_upper)
)

// These constants are enum ring_act.
const (
	RingOpenProducer  = C.RING_OPEN_PRODUCER
	RingOpenConsumer  = C.RING_OPEN_CONSUMER
	RingReserve       = C.RING_RESERVE
	RingCommit        = C.RING_COMMIT
	RingPeek          = C.RING_PEEK
	RingRelease       = C.RING_RELEASE
	RingCloseProducer = C.RING_CLOSE_PRODUCER
	RingCloseConsumer = C.RING_CLOSE_CONSUMER
	RingPause         = C.RING_PAUSE
	RingTrace         = C.RING_TRACE
	RingStop          = C.RING_STOP
	RingTimed         = C.RING_TIMED
	RingLengthUnit    = C.RING_LENGTH
)

// RingBytes is the size of each ring of a RingArea.
const RingBytes = C.RING_BYTES

// RingArea is struct ring_area.
type RingArea struct {
	Done, Rounds, Longest, Ready uint32

	Size   uint64
	Act    [C.RING_ACTS]int32
	Result [C.RING_ACTS]int32
	_      [C.offset_ring - C.offset_ring_act - 2*4*C.RING_ACTS]byte
	Ring   [2][C.RING_BYTES]byte
}

// RingOffset is the offset of the first ring in a RingArea.
const RingOffset = C.offset_ring

var _ = [1]struct{}{}[unsafe.Sizeof(RingArea{})-C.sizeof_struct_ring_area]

// RingLength is ring_length of ring.c: the length of the record i.
func (a *RingArea) RingLength(i uint32) int { return int((i * 2654435761 >> 7) % (a.Longest + 1)) }
