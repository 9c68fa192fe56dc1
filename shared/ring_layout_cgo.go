//go:build linux && cgo

package shared

/*
#include "csrc/ring.h"

enum {
	offset_ring_size = offsetof(struct shm_ring_words, size),
	offset_ring_end = offsetof(struct shm_ring_words, end),
	offset_ring_side = offsetof(struct shm_ring_words, side),
	offset_side_wake_at = offsetof(struct shm_ring_side, wake_at),
	offset_side_gate = offsetof(struct shm_ring_side, gate),
};
*/
import "C"

import "unsafe"

// As in layout_cgo.go, another index than 0 does not compile.
var (
	_ = [1]struct{}{}[RingHeaderSize-C.sizeof_struct_shm_ring_words]
	_ = [1]struct{}{}[unsafe.Sizeof(ringWords{})-C.sizeof_struct_shm_ring_words]
	_ = [1]struct{}{}[unsafe.Sizeof(ringSide{})-C.sizeof_struct_shm_ring_side]
	_ = [1]struct{}{}[recordSize-C.sizeof_struct_shm_ring_record]
	_ = [1]struct{}{}[unsafe.Offsetof(ringWords{}.size)-C.offset_ring_size]
	_ = [1]struct{}{}[unsafe.Offsetof(ringWords{}.end)-C.offset_ring_end]
	_ = [1]struct{}{}[unsafe.Offsetof(ringWords{}.side)-C.offset_ring_side]
	_ = [1]struct{}{}[unsafe.Offsetof(ringSide{}.wakeAt)-C.offset_side_wake_at]
	_ = [1]struct{}{}[unsafe.Offsetof(ringSide{}.gate)-C.offset_side_gate]
	_ = [1]struct{}{}[Align-C.SHM_RING_ALIGN]
	_ = [1]struct{}{}[producer-C.SHM_RING_PRODUCER]
	_ = [1]struct{}{}[consumer-C.SHM_RING_CONSUMER]
	_ = [1]struct{}{}[kindRing-C.SHM_KIND_RING]
	_ = [1]struct{}{}[ringOwner-C.SHM_RING_OWNER]
	_ = [1]struct{}{}[ringClosed-C.SHM_RING_CLOSED]
	_ = [1]struct{}{}[ringDied-C.SHM_RING_DIED]
	_ = [1]struct{}{}[ringSkip-C.SHM_RING_SKIP]
	_ = [1]struct{}{}[ringLongest-C.SHM_RING_LONGEST]
	_ = [1]struct{}{}[heldProduces-C.SHM_HELD_PRODUCES]
	_ = [1]struct{}{}[heldConsumes-C.SHM_HELD_CONSUMES]
)
