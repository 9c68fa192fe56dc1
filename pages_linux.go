package shm

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"forkshm.example/shm/internal/highfd"
)

// Detach moves the mapping's pages to a new mapping of the same length, without
// a copy (MREMAP_DONTUNMAP). m keeps its address and length, and reads zero.
// The new mapping is a snapshot of m, and m can be written to again at once.
//
// m keeps its reserve and its guards. The new mapping has neither. The new
// mapping has the protection of m. If m was locked, the new mapping is locked,
// and m is not locked any more. A call that fails changes nothing.
//
// Detach needs a private mapping. The pages of a shared mapping would stay in
// both mappings. For a shared mapping, and for HugeExplicit, the error wraps
// [errors.ErrUnsupported]. Detach needs Linux 5.7, and 5.13 for DevZero and
// Memfd. See mremap(2).
func (m *Mapping) Detach() (*Mapping, error) {
	const op = "detach"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return nil, &Error{op, 0, ErrClosed}
	}
	length := m.mem.length
	if m.sharing != Private || m.mem.huge == HugeExplicit {
		return nil, &Error{op, length, fmt.Errorf("a %v mapping with %v, "+
			"must be MAP_PRIVATE and not HugeExplicit: %w",
			m.sharing, m.mem.huge, errors.ErrUnsupported)}
	}
	taken := *m.mem
	size := pages(length) * os.Getpagesize()
	if taken.fd >= 0 {
		fd, err := highfd.Duplicate(uintptr(taken.fd))
		if err != nil {
			return nil, &Error{op, length, os.NewSyscallError("fcntl", err)}
		}
		taken.fd = fd
	}
	addr, err := reserveAligned(m.mem.addr, size)
	if err == nil {
		if err = movePages(m.mem.addr, addr, size); err != nil {
			_ = Munmap(addr, size)
		}
	}
	if err != nil {
		taken.closeObject()
		return nil, &Error{op, length, vmaError(err)}
	}
	taken.addr = addr
	taken.leaveReservation(size)
	m.mem.locked = false
	return newMappingOf(m.sharing, m.technique, &taken), nil
}

// Swap exchanges all pages of two mappings without a copy. Each mapping keeps
// its address, and gets the bytes of the other. Both must have the same number
// of pages, or the error is ErrRange. The other rules are those of SwapPages.
func (m *Mapping) Swap(other *Mapping) error {
	return m.swap("swap", other, func(size, otherSize int) (off, otherOff, length int, err error) {
		if size != otherSize {
			return 0, 0, 0, fmt.Errorf("with a mapping of %d bytes: %w, both must have as many pages",
				other.mem.length, ErrRange)
		}
		return 0, 0, size, nil
	})
}

// SwapPages exchanges length bytes at off for length bytes at otherOff of
// other, without a copy. Each mapping keeps its address, and gets the pages of
// the other. A program can so gather pages from many mappings into one, or
// scatter them. A program can give pages of a new mapping in exchange: they
// read zero and take no memory. For less than a MiB or two at once, a copy
// takes less time.
//
// Offsets and length must be multiples of the page size, or the error is
// ErrAlign. They must lie within the mappings, the whole last page included, or
// the error is ErrRange. m and other may be the same mapping. Then the two
// ranges must be the same, or must not overlap, or the error is ErrRange.
//
// Both mappings must be private, with one technique, one protection and one
// kind of pages. They must be neither locked nor Memfd nor HugeExplicit. For
// others the error wraps [errors.ErrUnsupported].
//
// What Bytes, At and Slice returned stays valid, and shows the other bytes. A
// goroutine that reads the ranges during the call may find zeros. What a
// goroutine writes there during the call may be lost. Advice that the kernel
// keeps for pages moves with the pages.
//
// A call that fails changes nothing. After SwapPages, the kernel manages each
// of the mappings as several areas (VMAs). A process can have 65530 areas by
// default (/proc/sys/vm/max_map_count). Beyond that, the error is ENOMEM.
// SwapPages needs Linux 5.7, and 5.13 for DevZero. See mremap(2),
// MREMAP_DONTUNMAP.
func (m *Mapping) SwapPages(off int, other *Mapping, otherOff, length int) error {
	return m.swap("swap", other, func(size, otherSize int) (int, int, int, error) {
		page := os.Getpagesize()
		switch {
		case off%page != 0 || otherOff%page != 0 || length%page != 0:
			return 0, 0, 0, fmt.Errorf("offsets %d and %d, %d bytes: %w, must be multiples of %d",
				off, otherOff, length, ErrAlign, page)
		case off < 0 || otherOff < 0 || length < 0 || off > size-length || otherOff > otherSize-length:
			return 0, 0, 0, fmt.Errorf("offsets %d and %d, %d bytes: %w of mappings of %d and %d bytes",
				off, otherOff, length, ErrRange, m.mem.length, other.mem.length)
		case m == other && off != otherOff && max(off, otherOff)-min(off, otherOff) < length:
			return 0, 0, 0, fmt.Errorf("offsets %d and %d, %d bytes of one mapping: %w, must not overlap",
				off, otherOff, length, ErrRange)
		}
		return off, otherOff, length, nil
	})
}

// swap is Swap and SwapPages. The function ranges gets the sizes of both
// mappings, in whole pages, and returns what to exchange.
func (m *Mapping) swap(op string, other *Mapping,
	ranges func(size, otherSize int) (off, otherOff, length int, err error)) error {
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
	case m.sharing != Private || other.sharing != Private,
		m.technique != other.technique || m.technique == Memfd,
		m.mem.huge != other.mem.huge || m.mem.huge == HugeExplicit,
		m.mem.prot != other.mem.prot || m.mem.locked || other.mem.locked:
		return &Error{op, length, fmt.Errorf("both must be private and of one kind, "+
			"and not locked, Memfd or HugeExplicit: %w",
			errors.ErrUnsupported)}
	case length == 0 || m == other && off == otherOff:
		return nil
	}
	err = swapRanges(unsafe.Add(m.mem.addr, off), unsafe.Add(other.mem.addr, otherOff), length)
	if err != nil {
		return &Error{op, length, vmaError(err)}
	}
	return nil
}
