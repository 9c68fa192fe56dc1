package shared

import (
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm"
)

// Arena is an allocator in shared memory, for Go and C alike. [Alloc] makes a block
// and stores its [Ref] in one step that a death cannot divide. C code uses shm_alloc,
// shm_free and shm_at of shm_shared.h.
//
// All processes allocate and free at once, without a lock: only an arena that takes
// more of its memory into use locks for a moment. Blocks of up to 4096 bytes come in
// 28 sizes, in chunks of 16 KiB. A larger block has a chunk of its own. Memory that
// was used for blocks of one size is used for that size only.
//
// An Arena is valid as long as what shm.At returns. After the mapping has moved,
// NewArena finds the arena at the new address. The Refs stay what they are. If
// Resize has made the mapping longer, NewArena also has the arena use the new bytes,
// up to its Max. Children that were forked before must have these bytes mapped, too:
// see Config.Reserve. A mapping with an arena must not shrink.
type Arena struct{ arena }

// NewArena makes an arena at an offset of a Shared mapping, or finds the arena that
// is there, which keeps its Max. The arena takes the rest of the mapping, up to Max.
// The offset must be a multiple of [Align]. The bytes must be zero, or such an
// arena. If they are something else, the error wraps [ErrKind].
//
// An arena needs 8 KiB at least, and 4 bytes for each 4 KiB of Max.
func NewArena(m *shm.Mapping, off int, cfg *ArenaConfig) (*Arena, error) {
	if cfg == nil {
		cfg = new(ArenaConfig)
	}
	a := new(Arena)
	if err := a.open(m, off, cfg.Max); err != nil {
		return nil, &Error{"arena", off, err}
	}
	return a, nil
}

// Stats counts the arena's blocks, while others go on. The time that it takes
// grows with their number. If the arena's own bytes are garbage, the error says
// so, and the counts are of the blocks before the garbage.
func (a *Arena) Stats() (ArenaStats, error) { return a.stats() }

// Check walks all of the arena, while others go on. If something is not as it
// must be, the error says what: a process has written to the arena's own bytes.
// Check trusts nothing that it reads. Nobody can take new memory into use
// meanwhile. The child of a live fork walks as much of the arena as there was at
// the fork.
func (a *Arena) Check() error { return a.check() }

// goodTypes are types that were found to hold no pointers. The index is of a type's address.
var goodTypes [256]atomic.Uintptr

// fits reports whether values of type T may be in the arena.
func fits[T any](a *Arena) bool {
	var p any = (*T)(nil)
	word := *(*uintptr)(unsafe.Pointer(&p)) // the address of what the runtime knows of the type
	good := &goodTypes[word>>5%uintptr(len(goodTypes))]
	if good.Load() == word {
		return true
	}
	if typeError[T](a) != nil {
		return false
	}
	good.Store(word)
	return true
}

// typeError returns the error of shm.At for a type that holds pointers.
func typeError[T any](a *Arena) error {
	_, err := shm.Slice[T](a.mapping(), 0, 0)
	return err
}
