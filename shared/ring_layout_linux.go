//go:build cgo

package shared

// This file declares the structs of rings that Go and C share: see csrc/ring.h. ring_layout_cgo.go
// checks at compile time that sizes and offsets are the same.

// These constants are enum shm_ring_end.
const (
	producer = iota
	consumer
)

// ringSide is struct shm_ring_side.
type ringSide struct {
	position uint64
	_        [7]uint64
	wakeAt   uint64
	gate     gate
	_        [6]uint64
}

// ringWords is struct shm_ring_words.
type ringWords struct {
	head
	size uint64
	end  [2]uint32
	_    [3]uint64
	side [2]ringSide
}

// These constants are those of csrc/ring.h.
const (
	ringOwner  = 0xffff
	ringClosed = 1 << 16
	ringDied   = 1 << 17
	ringFlags  = ringClosed | ringDied

	ringSkip    = 1<<32 - 1
	ringLongest = 0x7ffffff8

	recordSize = 8 // of a struct shm_ring_record
)
