package shm

import (
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Move says whether [Mapping.Resize] may give the mapping another address.
type Move int

const (
	InPlace Move = iota // flags 0: ENOMEM where the pages behind are taken
	MayMove             // MREMAP_MAYMOVE: what Bytes, Addr, At and Slice returned becomes invalid
)

func (move Move) flags() (int, error) {
	switch move {
	case InPlace:
		return 0, nil
	case MayMove:
		return unix.MREMAP_MAYMOVE, nil
	}
	return 0, fmt.Errorf("Move(%d), must be InPlace or MayMove: %w", int(move), unix.EINVAL)
}

// Resize makes the mapping length bytes long. Pages are moved, never copied, and a failed call
// leaves all as it was.
//
// Shrinking unmaps the pages beyond the new length, in place: what Bytes, At and Slice returned of
// them becomes invalid. On growing again, pages of a private
// mapping read zero; those of a shared one hold their old bytes, since the memory behind it stays.
// Bytes beyond Len in the last page are kept by both.
//
// A shared mapping cannot grow past the size that it was created with: the kernel would say yes,
// and the first access there be SIGBUS. That is refused with ErrGrowShared.
//
// A child forked earlier is not affected: it has the mapping at the old address, in the old
// length. See mremap(2).
func (m *Mapping) Resize(length int, move Move) error {
	const op = "resize"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return &Error{op, length, ErrClosed}
	}
	if m.sharing == Shared && length > m.object {
		return &Error{op, length, fmt.Errorf("of %d at first: %w", m.object, ErrGrowShared)}
	}
	flags, err := move.flags()
	if err != nil {
		return &Error{op, length, err}
	}
	addr, err := Mremap(m.mem.addr, m.mem.length, length, flags, nil)
	if err != nil {
		return &Error{op, length, os.NewSyscallError("mremap", err)}
	}
	m.mem.addr, m.mem.length = addr, length
	return nil
}

// moving is held by who holds the locks of two mappings, so that no two wait for each other.
var moving sync.Mutex

// MoveTo moves the mapping's pages to where dst is (MREMAP_MAYMOVE|MREMAP_FIXED): dst's own pages
// are gone, and dst is closed by it. m keeps its length; dst must span at least as many pages, or
// the call is refused with ErrRange, as it would replace memory that is not dst's. What Bytes, Addr,
// At and Slice returned, of both, becomes invalid. What is refused leaves both as they were. If the
// kernel fails the move it may have cleared the place already, or have moved a part (of memory that
// was split by mprotect(2) or mseal(2), say): what is lost by that is closed, and the error says so.
// See mremap(2).
func (m *Mapping) MoveTo(dst *Mapping) error {
	const op = "move"
	moving.Lock()
	defer moving.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if dst == nil {
		dst = new(Mapping) // as good as closed
	}
	if dst != m {
		dst.mu.Lock()
		defer dst.mu.Unlock()
	}
	if m.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	length := m.mem.length
	if dst.mem == nil {
		return &Error{op, length, fmt.Errorf("onto it: %w", ErrClosed)}
	}
	if pages(length) > pages(dst.mem.length) {
		return &Error{op, length, fmt.Errorf("onto a mapping of %d bytes: %w, map it larger", dst.mem.length, ErrRange)}
	}
	moved := pages(length) * os.Getpagesize()
	addr, err := Mremap(m.mem.addr, length, length, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, dst.mem.addr)
	if err != nil {
		err = os.NewSyscallError("mremap", err)
		switch {
		case !m.mem.isWhole(moved): // a part of it moved: neither is what it was
			if dst.mem.isWhole(moved) {
				_ = dst.mem.unmap()
			}
			dst.forget()
			m.forget()
			err = fmt.Errorf("%w, in its midst: both are lost, and closed", err)
		case !dst.mem.isWhole(moved):
			dst.forget()
			err = fmt.Errorf("%w, when the place was cleared: it is closed", err)
		}
		return &Error{op, length, err}
	}
	m.mem.addr = addr

	// What was moved over is m's now. Should the rest of dst not go, dst still holds it.
	if rest := dst.mem.length - moved; rest > 0 {
		dst.mem.addr, dst.mem.length = unsafe.Add(dst.mem.addr, moved), rest
		if err := dst.mem.unmap(); err != nil {
			return &Error{op, length, fmt.Errorf("moved, but the rest of dst stays until it is closed: %w", err)}
		}
	}
	dst.forget()
	return nil
}

// isWhole says whether the first length bytes are still mapped.
func (mem *memory) isWhole(length int) bool {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(mem.addr), uintptr(length), uintptr(unsafe.Pointer(unsafe.SliceData(make([]byte, pages(length))))))
	return errno != unix.ENOMEM
}

func pages(length int) int {
	page := os.Getpagesize()
	return (length + page - 1) / page
}
