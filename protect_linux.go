package shm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hugepage"
)

// Protect sets what this process may do with the mapping's memory. The
// protection holds for the whole mapping and for what Resize adds. A forbidden
// access through Bytes, At or Slice is SIGSEGV, and one by ReadAt or WriteAt is
// a [FaultError]. A child that was forked earlier keeps its protection. See
// mprotect(2).
func (m *Mapping) Protect(prot Protection) error {
	const op = "protect"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	length := m.mem.length
	if prot < NoAccess || prot > ReadWrite {
		return &Error{op, length,
			fmt.Errorf("Protection(%d), must be NoAccess, ReadOnly or ReadWrite: %w",
				int(prot), unix.EINVAL)}
	}
	size := length
	if m.mem.tracksObject || m.mem.huge == HugeExplicit { // Resize does not protect what it adds
		size = m.mem.reservation.capacity
	}
	if err := m.mem.protect(0, size, prot); err != nil {
		_ = m.mem.protect(0, size, m.mem.prot) // mprotect may have changed a part
		return &Error{op, length, err}
	}
	m.mem.prot = prot
	return nil
}

// Advise tells the kernel how the program will use length bytes at off. The
// advice is one of unix.MADV_*. The offset must be a multiple of the page size,
// or the error is ErrAlign. The bytes must lie within the mapping, or the error
// is ErrRange. Some advice changes the bytes: after MADV_DONTNEED, private
// memory reads zero. See madvise(2) for the Linux that each advice needs. In
// memory with Mapping.Huge HugeExplicit, MADV_DONTNEED needs Linux 5.18. On an
// earlier Linux the error wraps [errors.ErrUnsupported].
//
// The kernel keeps some advice as a property of the memory, MADV_DONTFORK,
// MADV_HUGEPAGE and MADV_DONTDUMP for example. Such advice stays with the pages
// when Resize moves them. Advice for the whole mapping also holds for the space
// that Config.Reserve keeps. What Resize adds beyond the reserve gets the
// advice of the last page. See madvise(2).
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
		return &Error{op, length, fmt.Errorf("offset %d: %w, must be a multiple of %d",
			off, ErrAlign, os.Getpagesize())}
	}
	n, isWhole := length, off == 0 && length == m.mem.length
	if m.mem.reservation != nil && isWhole && (isSticky(advice) || m.mem.huge == HugeExplicit) {
		n = m.mem.reservation.capacity
	}
	if err := m.mem.advise(off, n, advice); err != nil {
		if advice == unix.MADV_DONTNEED && m.mem.huge == HugeExplicit &&
			off%hugepage.Explicit() == 0 && errors.Is(err, unix.EINVAL) {
			err = errDontNeedHuge
		}
		return &Error{op, length, err}
	}
	return nil
}

// errDontNeedHuge says what EINVAL means where the arguments are right.
var errDontNeedHuge = fmt.Errorf("%w: MADV_DONTNEED for HugeExplicit memory needs "+
	"Linux 5.18: %w",
	os.NewSyscallError("madvise", unix.EINVAL), errors.ErrUnsupported)

// isSticky reports whether the kernel keeps an advice as a property of the
// memory.
func isSticky(advice int) bool {
	switch advice {
	case unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_SEQUENTIAL, unix.MADV_DONTFORK,
		unix.MADV_DOFORK,
		unix.MADV_MERGEABLE, unix.MADV_UNMERGEABLE, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE,
		unix.MADV_DONTDUMP, unix.MADV_DODUMP, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK:
		return true
	}
	return false
}

// Lock faults the whole mapping in, and keeps it in memory. What Resize adds is
// locked too. A child does not inherit the lock. Beyond RLIMIT_MEMLOCK, Lock
// fails with ENOMEM, and Resize with ENOMEM or EAGAIN. See mlock(2).
func (m *Mapping) Lock() error { return m.setLocked("lock", true) }

// Unlock undoes Lock: the kernel may swap the memory out again. See munlock(2).
func (m *Mapping) Unlock() error { return m.setLocked("unlock", false) }

func (m *Mapping) setLocked(op string, locked bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	if err := m.mem.lock(0, m.mem.length, locked); err != nil {
		if locked && !m.mem.locked {
			_ = m.mem.lock(0, m.mem.length, false) // mlock may have locked a part
		}
		return &Error{op, m.mem.length, err}
	}
	m.mem.locked = locked
	return nil
}
