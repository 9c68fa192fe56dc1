package shm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
)

// ObjectLen returns the present length, in bytes, of the object behind a shared
// Memfd mapping. Any process that has the object may have grown or shrunk it. C
// code, also that of a child, calls shm_object_length of csrc/shm_child.h
// instead. For other mappings the error wraps [errors.ErrUnsupported]. See
// fstat(2).
func (m *Mapping) ObjectLen() (int, error) {
	const op = "object length"
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.needObject(); err != nil {
		return 0, &Error{op, 0, err}
	}
	n, err := m.mem.objectLen()
	if err != nil {
		return 0, &Error{op, 0, err}
	}
	return n, nil
}

// needObject says why the mapping has no object, if it has none.
func (m *Mapping) needObject() error {
	switch {
	case m.mem == nil:
		return ErrClosed
	case m.technique != Memfd || m.sharing != Shared:
		return fmt.Errorf("a %v mapping of %v has no object, must be MAP_SHARED and memfd: %w",
			m.sharing, m.technique, errors.ErrUnsupported)
	}
	return nil
}

// File returns a new descriptor of the object behind a shared Memfd mapping. A
// program passes the descriptor to another process, which maps the object by
// [MapFile]. The caller must close the file. The file stays valid after the
// mapping is closed. For other mappings the error wraps
// [errors.ErrUnsupported].
func (m *Mapping) File() (*os.File, error) {
	const op = "file"
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.needObject(); err != nil {
		return nil, &Error{op, 0, err}
	}
	fd, err := highfd.Duplicate(uintptr(m.mem.fd))
	if err != nil {
		return nil, &Error{op, m.mem.length, os.NewSyscallError("fcntl", err)}
	}
	return os.NewFile(uintptr(fd), "memfd"), nil
}

// MapFile maps all of a file, and returns a shared Memfd mapping. The file must
// be one that can be written to and resized: one that [Mapping.File] returned
// in another process, or a file on a tmpfs. The caller may close the file
// afterwards.
//
// If another process grows the object, Resize to ObjectLen makes the mapping as
// long. If another process shrinks the object, an access beyond the object's
// end is SIGBUS. Resize allocates what it adds, as with Config.Populate, so
// that a full file system is an error of Resize. An object of huge pages gives
// a HugeExplicit mapping.
func MapFile(f *os.File) (*Mapping, error) {
	const op = "map file"
	defer runtime.KeepAlive(f)
	fd, err := highfd.Duplicate(f.Fd())
	if err != nil {
		return nil, &Error{op, 0, os.NewSyscallError("fcntl", err)}
	}
	mem := &memory{fd: fd, prot: ReadWrite, tracksObject: true, populate: true}
	mem.liveChildren = new(atomic.Int64)
	if err := mem.mapObject(); err != nil {
		if mem.reservation != nil {
			_ = mem.unmap()
		} else {
			mem.closeObject()
		}
		return nil, &Error{op, 0, fmt.Errorf("%s: %w", f.Name(), err)}
	}
	return newMappingOf(Shared, Memfd, mem), nil
}

// mapObject maps all of the object behind mem.fd.
func (mem *memory) mapObject() (err error) {
	if mem.length, err = mem.objectLen(); err != nil {
		return err
	}
	if mem.length == 0 {
		return fmt.Errorf("the file is empty, must have at least one byte: %w", unix.EINVAL)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(mem.fd, &fs); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	capacity := pages(mem.length) * os.Getpagesize()
	if uint32(fs.Type) == unix.HUGETLBFS_MAGIC {
		mem.tracksObject, mem.huge, mem.object = false, HugeExplicit, capacity
	}
	if err := mem.reserve(capacity); err != nil {
		return err
	}
	if err := mem.mapFixed(unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, mem.fd); err != nil {
		return err
	}
	return mem.listObject()
}

// Seal forbids operations on the object behind a shared Memfd mapping, for
// every process and for good. The argument is one or more of unix.F_SEAL_*.
// With unix.F_SEAL_SHRINK, no process can shrink the object, and what the
// object has stays valid for all processes. Resize to a smaller length then
// fails with EPERM. For other mappings the error wraps [errors.ErrUnsupported].
// See fcntl(2), F_ADD_SEALS.
func (m *Mapping) Seal(seals int) error {
	const op = "seal"
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.needObject(); err != nil {
		return &Error{op, 0, err}
	}
	if _, err := unix.FcntlInt(uintptr(m.mem.fd), unix.F_ADD_SEALS, seals); err != nil {
		return &Error{op, m.mem.length, os.NewSyscallError("fcntl", err)}
	}
	return nil
}
