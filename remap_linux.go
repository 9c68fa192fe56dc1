package shm

import (
	"errors"
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
// A shared Anonymous or DevZero mapping cannot grow past the size that it was created with, Reserve
// included: the kernel would say yes, and the first access there be SIGBUS. That is refused with
// ErrGrowShared.
//
// A shared Memfd mapping is as long as the object behind it, for every process. Growing makes the
// object larger, and then the mapping; within what Config.Reserve keeps, a child that was forked
// earlier uses the new bytes at the same address. Shrinking gives the memory back, which is SIGBUS for
// who touches it later: as long as children live that Fork made and Wait has not reaped it is refused
// with ErrLive, unless asked for by Truncate. Bytes beyond the new length are lost.
//
// Within Config.Reserve a mapping grows in place; beyond, it needs MayMove, and keeps no reserve.
// Of what is not Memfd, a child forked earlier is not affected: it has the mapping at the old address,
// in the old length.
//
// A mapping that advice, protection or SwapPages has made several to the kernel is moved part by part.
// See mremap(2).
func (m *Mapping) Resize(length int, move Move) error {
	const op = "resize"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return &Error{op, length, ErrClosed}
	}
	if m.sharing == Shared && !m.mem.sized && length > m.mem.object {
		return &Error{op, length, fmt.Errorf("created with %d bytes: %w", m.mem.object, ErrGrowShared)}
	}
	flags, err := move.flags()
	if err != nil {
		return &Error{op, length, err}
	}
	if m.mem.frame != nil {
		err = m.resizeFramed(length, move, false)
	} else {
		err = m.resizePlain(length, flags)
	}
	if err != nil {
		return &Error{op, length, err}
	}
	return nil
}

// resizePlain is Resize of what has nothing kept around it.
func (m *Mapping) resizePlain(length, flags int) error {
	mem, was, old, page := m.mem, m.mem.addr, m.mem.length, os.Getpagesize()
	mayMove := flags != 0
	large := mayMove && length > old && old >= alignedMove
	if large {
		flags = 0 // in place, if that can be
	}
	addr, err := Mremap(was, old, length, flags, nil)
	split := err == unix.EFAULT && length > old
	if split {
		addr, err = was, growSplit(was, pages(old)*page, pages(length)*page)
	}
	if err == unix.ENOMEM && (large || split && mayMove) {
		if addr, err = mem.moveAligned(length, split); err != nil && !split {
			addr, err = Mremap(was, old, length, unix.MREMAP_MAYMOVE, nil)
		}
	}
	if err != nil {
		return splitError(err)
	}
	mem.addr, mem.length = addr, length
	if mem.eager && pages(length) > pages(old) {
		from := pages(old) * page
		if err := mem.populate(from, length-from); err != nil {
			_ = Munmap(unsafe.Add(addr, from), pages(length)*page-from)
			mem.length = old
			mem.moveBack(was, from)
			return err
		}
	}
	return nil
}

// moveBack moves a plain mapping back to where it was. Should another thread have got that place
// meanwhile, it stays where it is.
func (mem *memory) moveBack(was unsafe.Pointer, span int) {
	if mem.addr == was {
		return
	}
	if _, err := Mmap(was, span, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, -1, 0); err != nil {
		return
	}
	if err := movePages(mem.addr, was, span); err != nil {
		_ = Munmap(was, span)
		return
	}
	_ = Munmap(mem.addr, span)
	mem.addr = was
}

// moving is held by who holds the locks of two mappings, so that no two wait for each other.
var moving sync.Mutex

// MoveTo moves the mapping's pages to where dst is (MREMAP_MAYMOVE|MREMAP_FIXED): dst's own pages
// are gone, and dst is closed by it. m keeps its length; dst must span at least as many pages, or
// the call is refused with ErrRange, as it would replace memory that is not dst's. What Bytes, Addr,
// At and Slice returned, of both, becomes invalid. What is refused leaves both as they were. If the
// kernel fails the move it may have cleared the place already: what is lost by that is closed, and the
// error says so. A mapping that is several to the kernel moves part by part, or not at all.
//
// What Reserve and Guard kept around either of them is given up. HugeExplicit mappings do not move:
// the error wraps [errors.ErrUnsupported]. See mremap(2).
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
		return &Error{op, length, fmt.Errorf("the destination: %w", ErrClosed)}
	}
	if m.mem.huge == HugeExplicit || dst.mem.huge == HugeExplicit {
		return &Error{op, length, fmt.Errorf("mapped by MAP_HUGETLB: %w", errors.ErrUnsupported)}
	}
	if pages(length) > pages(dst.mem.length) {
		return &Error{op, length, fmt.Errorf("onto a mapping of %d bytes: %w, map it larger", dst.mem.length, ErrRange)}
	}
	moved := pages(length) * os.Getpagesize()
	addr, err := dst.mem.addr, error(nil)
	if isSplit(m.mem.addr, moved) {
		err = moveSplit(m.mem.addr, addr, moved)
	} else {
		_, err = Mremap(m.mem.addr, length, length, moveOnto, addr)
	}
	if err != nil {
		err = splitError(err)
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
	if m.mem.frame != nil {
		_ = m.mem.frame.unmapAround(m.mem.addr, moved)
	}
	m.mem.addr = addr
	m.mem.settleAt(moved)
	if m.mem.entry != nil {
		_ = m.mem.listObject() // cannot fail: it has its entry
	}

	// What was moved over is m's now. Should the rest of dst not go, dst still holds it.
	if dst.mem.frame != nil {
		if err := dst.mem.frame.unmapAround(dst.mem.addr, moved); err != nil {
			err = fmt.Errorf("moved, but some of what was kept around dst stays: %w", err)
			dst.forget()
			return &Error{op, length, err}
		}
	} else if rest := dst.mem.length - moved; rest > 0 {
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
	if length%page > 0 {
		return length/page + 1 // the largest int, too, has its pages
	}
	return length / page
}
