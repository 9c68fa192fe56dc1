package shm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ObjectLen returns how many bytes there are behind a shared Memfd mapping now, whichever process
// grew or shrank it. In C, a child's too, it is shm_object_length of csrc/shm_child.h. For other
// mappings the error wraps [errors.ErrUnsupported]. See fstat(2).
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

func (m *Mapping) needObject() error {
	switch {
	case m.mem == nil:
		return ErrClosed
	case m.technique != Memfd || m.sharing != Shared:
		return fmt.Errorf("a %v mapping of %v has no object, must be MAP_SHARED and memfd: %w", m.sharing, m.technique, errors.ErrUnsupported)
	}
	return nil
}

// File returns a new descriptor of the object behind a shared Memfd mapping, for passing to an
// unrelated process, which maps it by [MapFile]. The caller must close it; it outlives the mapping.
// For other mappings the error wraps [errors.ErrUnsupported].
func (m *Mapping) File() (*os.File, error) {
	const op = "file"
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.needObject(); err != nil {
		return nil, &Error{op, 0, err}
	}
	fd, err := unix.FcntlInt(uintptr(m.mem.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &Error{op, m.mem.length, os.NewSyscallError("fcntl", err)}
	}
	return os.NewFile(uintptr(fd), "memfd"), nil
}

// MapFile maps all of a file that can be resized and written to, one that [Mapping.File] returned
// in another process, or one on a tmpfs: a shared Memfd mapping. The file may be closed then. If
// another process grows the object, Resize to ObjectLen follows it; if one shrinks it, what is
// beyond is SIGBUS here. What Resize adds is allocated, as with Config.Populate: a full file system is
// an error then. An object of huge pages is mapped as HugeExplicit maps.
func MapFile(f *os.File) (*Mapping, error) {
	const op = "map file"
	defer runtime.KeepAlive(f)
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &Error{op, 0, os.NewSyscallError("fcntl", err)}
	}
	mem := &memory{fd: fd, prot: ReadWrite, tracksObject: true, populate: true, liveChildren: new(atomic.Int64)}
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

// mapObject maps all of the object that a shared memfd is to be.
func (mem *memory) mapObject() (err error) {
	if mem.length, err = mem.objectLen(); err != nil {
		return err
	}
	if mem.length == 0 {
		return fmt.Errorf("empty file: %w", unix.EINVAL)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(mem.fd, &fs); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	room := pages(mem.length) * os.Getpagesize()
	if uint32(fs.Type) == unix.HUGETLBFS_MAGIC {
		mem.tracksObject, mem.huge, mem.object = false, HugeExplicit, room
	}
	if err := mem.reserve(room); err != nil {
		return err
	}
	if _, err := Mmap(mem.addr, room, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED, mem.fd, 0); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	return mem.listObject()
}

// Seal has the kernel refuse, to every process and from now on, what seals names: unix.F_SEAL_SHRINK
// promises those who map the object that none of it becomes SIGBUS. Then Resize to less is EPERM
// here too. See fcntl(2), F_ADD_SEALS.
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
