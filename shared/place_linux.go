//go:build cgo

package shared

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"unsafe"
	"weak"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"
)

// A structure's name is the number of its mapping and its offset there. The name is the same in all
// processes of the program, wherever each has mapped the memory, and after the mapping has moved.

const offsetBits = 40

func nameOf(mapping uint32, off int) uint64 { return uint64(mapping)<<offsetBits | uint64(off) }

// placeOf returns what a name says.
func placeOf(where uint64) (mapping uint32, off uint64) {
	return uint32(where >> offsetBits), where & (1<<offsetBits - 1)
}

// mappings has the mappings of this process in which there are structures, by their numbers. A
// mapping can have several: two processes may have numbered it at the same time.
var mappings = struct {
	sync.Mutex
	byNumber map[uint32]weak.Pointer[shm.Mapping]
	numbers  map[weak.Pointer[shm.Mapping]]uint32
}{byNumber: map[uint32]weak.Pointer[shm.Mapping]{}, numbers: map[weak.Pointer[shm.Mapping]]uint32{}}

func init() { hook.Locks = append(hook.Locks, &mappings.Mutex) }

// numberOf returns the mapping's number.
func numberOf(m *shm.Mapping) uint32 {
	mappings.Lock()
	defer mappings.Unlock()
	p := weak.Make(m)
	if n, ok := mappings.numbers[p]; ok {
		return n
	}
	forgetUnreachable()
	n := atomic.AddUint32(&family.mappings, 1) & (1<<(64-offsetBits) - 1)
	mappings.byNumber[n], mappings.numbers[p] = p, n
	return n
}

// forgetters are called for each mapping that is forgotten.
var forgetters []func(mapping uint32)

// forgetUnreachable forgets the mappings that are not reachable any more.
func forgetUnreachable() {
	for n, p := range mappings.byNumber {
		if p.Value() == nil {
			delete(mappings.byNumber, n)
			delete(mappings.numbers, p)
			for _, forget := range forgetters {
				forget(n)
			}
		}
	}
}

// mappingOf returns the mapping that has the number, or nil.
func mappingOf(n uint32) *shm.Mapping {
	mappings.Lock()
	defer mappings.Unlock()
	return mappings.byNumber[n].Value()
}

// isNumberOf reports whether n is a number of the mapping. A number that this process has not seen
// is one that another process gave to the mapping: from then on the mapping has it here, too.
func isNumberOf(n uint32, m *shm.Mapping) bool {
	mappings.Lock()
	defer mappings.Unlock()
	if p, ok := mappings.byNumber[n]; ok && p.Value() != nil {
		return p.Value() == m
	}
	if n == 0 {
		return false
	}
	mappings.byNumber[n] = weak.Make(m)
	return true
}

// structure is what all structures have. It refers to memory as what shm.At returns does: it is valid
// until the mapping is closed, or moves.
type structure struct {
	m     *shm.Mapping
	off   int
	addr  unsafe.Pointer
	where uint64
}

// openStructure makes a structure of the kind where the bytes are zero, or finds the structure that is
// there. fill sets the first values, by atomic operations that change only zeros: two processes may do
// this at the same time.
func openStructure(m *shm.Mapping, off int, kind uint32, size int, fill func(addr unsafe.Pointer)) (structure, error) {
	s := structure{m: m, off: off}
	if familyErr != nil {
		return s, familyErr
	}
	if m.Sharing() != shm.Shared {
		return s, fmt.Errorf("the mapping is %v, must be %v: %w", m.Sharing(), shm.Shared, unix.EINVAL)
	}
	if off%Align != 0 || off < 0 || uint64(off) >= 1<<offsetBits {
		return s, fmt.Errorf("the offset must be a multiple of %d: %w", Align, shm.ErrAlign)
	}
	bytes, err := shm.Slice[byte](m, off, size)
	if err != nil {
		return s, errors.Unwrap(err)
	}
	s.addr = unsafe.Pointer(unsafe.SliceData(bytes))
	h := (*head)(s.addr)
	if atomic.LoadUint32(&h.kind) == 0 {
		atomic.CompareAndSwapUint32(&h.family, 0, family.family)
		atomic.CompareAndSwapUint64(&h.where, 0, nameOf(numberOf(m), off))
		fill(s.addr)
		atomic.CompareAndSwapUint32(&h.kind, 0, kind)
	}
	return s, s.check(h, kind)
}

// check says whether the bytes are such a structure, of this program, at this place.
func (s *structure) check(h *head, kind uint32) error {
	s.where = atomic.LoadUint64(&h.where)
	number, off := placeOf(s.where)
	if atomic.LoadUint32(&h.kind) != kind || off != uint64(s.off) {
		return ErrKind
	}
	if atomic.LoadUint32(&h.family) != family.family {
		return fmt.Errorf("%w: the structure belongs to another program", ErrKind)
	}
	if !isNumberOf(number, s.m) {
		return fmt.Errorf("%w: the structure belongs to another mapping", ErrKind)
	}
	return nil
}

// checkCount returns an error for a number of units or parties that a structure cannot have.
func checkCount(n int) error {
	if n < 1 || n > math.MaxInt32 {
		return fmt.Errorf("%d is out of the range from 1 to %d: %w", n, math.MaxInt32, unix.EINVAL)
	}
	return nil
}
