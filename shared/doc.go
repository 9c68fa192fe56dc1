// Package shared has locks in shared memory, for Go and C alike.
package shared

// Align is the alignment of each structure, in bytes: the offset of a structure
// must be a multiple of Align.
const Align = 64

// The sizes of the structures, in bytes.
const (
	MutexSize     = 64
	RWMutexSize   = 64
	SemaphoreSize = 64
	EventSize     = 64
	BarrierSize   = 64
)
