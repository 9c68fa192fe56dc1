package shared

import "unsafe"

// Ref names a T in an [Arena]. The zero Ref is nil: it names nothing. A Ref is the
// same in all processes, wherever each has mapped the arena, and stays valid after
// the mapping has grown or moved. In C it is a uint64_t: shm_at of shm_shared.h
// returns the address.
//
// T has the rules of shm.At: it holds no Go pointers. A struct that is to be in an
// arena holds Refs instead. A Ref must lie at a multiple of 8 bytes. On 32-bit
// platforms Go aligns it to 4: put the Refs of a struct first.
type Ref[T any] struct{ off uint64 }

// IsNil reports whether the Ref names nothing.
func (r Ref[T]) IsNil() bool { return r.off == 0 }

// Off returns the offset of what the Ref names from the arena, in bytes, as C has
// it. 0 is nil.
func (r Ref[T]) Off() uint64 { return r.off }

// In returns a pointer to the T that the Ref names, or nil if the Ref is nil, if the
// T would lie outside the arena, or if T holds Go pointers. The pointer is valid as
// long as what shm.At returns, and until the block is freed.
//
// A process can write any Ref to shared memory. In checks the range alone: the T
// may lie anywhere in the arena.
func (r Ref[T]) In(a *Arena) *T {
	if !fits[T](a) {
		return nil
	}
	var t T
	return (*T)(a.at(r.off, unsafe.Sizeof(t), unsafe.Alignof(t)))
}

// Slice returns n values of type T, of which the Ref names the first, or nil as In
// does.
func (r Ref[T]) Slice(a *Arena, n int) []T {
	var t T
	size := unsafe.Sizeof(t)
	if n < 0 || size > 0 && uint64(n) > maxBlock/uint64(size) || !fits[T](a) {
		return nil
	}
	p := a.at(r.off, uintptr(n)*size, unsafe.Alignof(t))
	if p == nil {
		return nil
	}
	return unsafe.Slice((*T)(p), n)
}

// Alloc makes a T in the arena, which is zero, and stores its Ref in *to. *to must
// be nil, and must lie in the arena's mapping, for example in another T.
//
// If the process dies at any instruction of Alloc, *to names the T, or there is no T.
// So a T belongs to whoever has *to. Nobody else may change *to, or give what it
// names away, before Alloc has returned, or before the process that called it has
// been reaped.
//
// The errors are [ErrFull], [ErrNotNil], [ErrOutside], shm.ErrType, [ErrTooMany] and
// [ErrBusy].
func Alloc[T any](a *Arena, to *Ref[T]) (*T, error) {
	s, err := AllocSlice(a, to, 1)
	return unsafe.SliceData(s), err
}

// AllocSlice is [Alloc] for n values of type T, one behind the other. *to names the
// first. [Ref.Slice] finds them again: it must be told their number.
func AllocSlice[T any](a *Arena, to *Ref[T], n int) ([]T, error) {
	var t T
	size := unsafe.Sizeof(t)
	switch {
	case !fits[T](a):
		return nil, typeError[T](a)
	case n < 0 || size > 0 && uint64(n) > maxBlock/uint64(size):
		return nil, ErrFull
	}
	p, err := a.alloc(uint64(n)*uint64(size), &to.off)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*T)(p), n), nil
}

// Free sets *from to nil, and frees what it named. If the process dies at any
// instruction of Free, *from is nil and the block is free, or neither. Whoever else
// has a copy of the Ref must not use it any more.
//
// A Ref that is nil, or that names a block that is free already, is
// [ErrNotAllocated]. So is one that names no block's beginning. If two processes
// free the same Ref at once, one of them gets that error. Other errors are
// [ErrOutside], [ErrTooMany] and [ErrBusy].
func Free[T any](a *Arena, from *Ref[T]) error { return a.free(&from.off) }
