package shm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Protect sets what this process may do with the mapping's memory, all of it, and with what Resize
// adds to it. Bytes, ReadAt and WriteAt do not look: what is forbidden is a fault. A child forked
// earlier keeps what it has. See mprotect(2).
func (m *Mapping) Protect(prot Protection) error {
	const op = "protect"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	length := m.mem.length
	if prot < NoAccess || prot > ReadWrite {
		return &Error{op, length, fmt.Errorf("Protection(%d), must be NoAccess, ReadOnly or ReadWrite: %w", int(prot), unix.EINVAL)}
	}
	span := length
	if m.mem.tracksObject || m.mem.huge == HugeExplicit { // the room is mapped already, and is to be alike
		span = m.mem.reservation.capacity
	}
	if err := m.mem.protect(0, span, prot); err != nil {
		_ = m.mem.protect(0, span, m.mem.prot) // it may have changed a part
		return &Error{op, length, err}
	}
	m.mem.prot = prot
	return nil
}

// Advise tells the kernel how length bytes at off will be used; advice is one of unix.MADV_*. The
// offset must be a multiple of the page size (ErrAlign), and both lie within the mapping
// (ErrRange). Some advice changes what memory holds: after MADV_DONTNEED a private mapping reads
// zero. See madvise(2).
//
// Advice that the kernel remembers (MADV_DONTFORK, MADV_HUGEPAGE, MADV_DONTDUMP and their like) is kept
// by the pages that it is for, wherever Resize moves them; what Resize adds is as the last page is, but
// for memory that is reserved already. For the whole of a mapping it holds for what is reserved too.
func (m *Mapping) Advise(off, length int, advice int) error {
	const op = "advise"
	m.mu.RLock()
	defer m.mu.RUnlock()
	switch {
	case m.mem == nil:
		return &Error{op, length, ErrClosed}
	case off < 0 || length < 0 || off > m.mem.length-length:
		return m.rangeError(op, length, int64(off))
	case off%os.Getpagesize() != 0:
		return &Error{op, length, fmt.Errorf("offset %d: %w, must be a multiple of %d", off, ErrAlign, os.Getpagesize())}
	}
	n := length
	if m.mem.reservation != nil && off == 0 && length == m.mem.length && (isSticky(advice) || m.mem.huge == HugeExplicit) {
		n = m.mem.reservation.capacity
	}
	if err := m.mem.advise(off, n, advice); err != nil {
		return &Error{op, length, err}
	}
	return nil
}

// remembered says whether the kernel keeps an advice as a property of the memory.
func isSticky(advice int) bool {
	switch advice {
	case unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_SEQUENTIAL, unix.MADV_DONTFORK, unix.MADV_DOFORK,
		unix.MADV_MERGEABLE, unix.MADV_UNMERGEABLE, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE,
		unix.MADV_DONTDUMP, unix.MADV_DODUMP, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK:
		return true
	}
	return false
}

// Lock keeps all of the mapping in memory, and what Resize adds to it. A child does not inherit
// it. Where it would exceed RLIMIT_MEMLOCK it fails with ENOMEM (EAGAIN for a Resize). See mlock(2).
func (m *Mapping) Lock() error { return m.setLocked("lock", true) }

// Unlock takes back Lock. See munlock(2).
func (m *Mapping) Unlock() error { return m.setLocked("unlock", false) }

func (m *Mapping) setLocked(op string, locked bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	if err := m.mem.lock(0, m.mem.length, locked); err != nil {
		if locked && !m.mem.locked {
			_ = m.mem.lock(0, m.mem.length, false) // it may have locked a part
		}
		return &Error{op, m.mem.length, err}
	}
	m.mem.locked = locked
	return nil
}
