package shm

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Detach moves the mapping's pages to a new mapping of the same length, without a copy, and leaves
// m with its address and length, reading zero (MREMAP_DONTUNMAP): a snapshot that is taken away
// while m is written to again. Only private memory leaves so; for shared memory, which would stay in
// both, the error wraps [errors.ErrUnsupported]. What is reserved and guarded stays m's. The new
// mapping is not protected otherwise than m is, and is locked if m was; m is not locked then. A failed
// call leaves m as it was. Needs Linux 5.7, 5.13 for DevZero and Memfd. See mremap(2).
func (m *Mapping) Detach() (*Mapping, error) {
	const op = "detach"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return nil, &Error{op, 0, ErrClosed}
	}
	length := m.mem.length
	if m.sharing != Private || m.mem.huge == HugeExplicit {
		return nil, &Error{op, length, fmt.Errorf("a %v mapping with %v, must be MAP_PRIVATE and not HugeExplicit: %w", m.sharing, m.mem.huge, errors.ErrUnsupported)}
	}
	taken := *m.mem
	span := pages(length) * os.Getpagesize()
	if taken.fd >= 0 {
		fd, err := unix.FcntlInt(uintptr(taken.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, &Error{op, length, os.NewSyscallError("fcntl", err)}
		}
		taken.fd = fd
	}
	addr, err := reserveAligned(m.mem.addr, span)
	if err == nil {
		if err = movePages(m.mem.addr, addr, span); err != nil {
			_ = Munmap(addr, span)
		}
	}
	if err != nil {
		taken.closeObject()
		return nil, &Error{op, length, vmaError(err)}
	}
	taken.addr = addr
	taken.leaveReservation(span)
	m.mem.locked = false
	return newMappingOf(m.sharing, m.technique, &taken), nil
}

// Swap exchanges the pages of two mappings, without a copy: each keeps its address and gets what
// the other held. Both must have the same number of pages (ErrRange); else the rules are SwapPages'.
func (m *Mapping) Swap(other *Mapping) error {
	return m.swap("swap", other, func(span, otherSpan int) (off, otherOff, length int, err error) {
		if span != otherSpan {
			return 0, 0, 0, fmt.Errorf("with a mapping of %d bytes: %w", other.mem.length, ErrRange)
		}
		return 0, 0, span, nil
	})
}

// SwapPages exchanges length bytes at off for as many at otherOff of other, page by page and without
// a copy: each keeps its address and gets what the other held. So pages are gathered from many
// mappings into one, or scattered; those of new memory, given in exchange, read zero and cost
// nothing. Below a MiB or two at once a copy takes less time.
//
// Offsets and length must be multiples of the page size (ErrAlign) and lie within the mappings' pages,
// the last of which may be partly beyond Len (ErrRange). Both mappings must be private, of one technique
// other than Memfd, alike in protection and kind of pages, not HugeExplicit, and not locked, or the
// error wraps [errors.ErrUnsupported]. They may be one mapping, where the ranges do not overlap
// (ErrRange). Advice that the kernel remembers for pages goes with them. What Bytes, At and Slice
// returned stays valid, and finds the other bytes; who uses it meanwhile may find zeros, or write
// what is lost.
//
// A failed call leaves both as they were. To the kernel the mappings are of several parts then, of
// which a process has 65530 (/proc/sys/vm/max_map_count): more is ENOMEM. Needs Linux 5.7, 5.13 for
// DevZero. See mremap(2), MREMAP_DONTUNMAP.
func (m *Mapping) SwapPages(off int, other *Mapping, otherOff, length int) error {
	return m.swap("swap", other, func(span, otherSpan int) (int, int, int, error) {
		page := os.Getpagesize()
		switch {
		case off%page != 0 || otherOff%page != 0 || length%page != 0:
			return 0, 0, 0, fmt.Errorf("offsets %d and %d, %d bytes: %w, must be multiples of %d", off, otherOff, length, ErrAlign, page)
		case off < 0 || otherOff < 0 || length < 0 || off > span-length || otherOff > otherSpan-length:
			return 0, 0, 0, fmt.Errorf("offsets %d and %d, %d bytes: %w of mappings of %d and %d bytes", off, otherOff, length, ErrRange, m.mem.length, other.mem.length)
		case m == other && off != otherOff && max(off, otherOff)-min(off, otherOff) < length:
			return 0, 0, 0, fmt.Errorf("offsets %d and %d, %d bytes of one mapping: %w, as they overlap", off, otherOff, length, ErrRange)
		}
		return off, otherOff, length, nil
	})
}

// swap is Swap and SwapPages: ranges looks at what both span, in bytes, and says what of it to exchange.
func (m *Mapping) swap(op string, other *Mapping, ranges func(span, otherSpan int) (off, otherOff, length int, err error)) error {
	if other == nil {
		other = new(Mapping) // which counts as closed
	}
	defer lockPair(m, other)()
	if m.mem == nil || other.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	page := os.Getpagesize()
	off, otherOff, length, err := ranges(pages(m.mem.length)*page, pages(other.mem.length)*page)
	switch {
	case err != nil:
		return &Error{op, m.mem.length, err}
	case m.sharing != Private || other.sharing != Private || m.technique != other.technique || m.technique == Memfd,
		m.mem.huge != other.mem.huge || m.mem.huge == HugeExplicit,
		m.mem.prot != other.mem.prot || m.mem.locked || other.mem.locked:
		return &Error{op, length, fmt.Errorf("both must be private, unlocked and alike: %w", errors.ErrUnsupported)}
	case length == 0 || m == other && off == otherOff:
		return nil
	}
	if err := swapRanges(unsafe.Add(m.mem.addr, off), unsafe.Add(other.mem.addr, otherOff), length); err != nil {
		return &Error{op, length, vmaError(err)}
	}
	return nil
}
