package shm

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hugepage"
)

// Up to alignedMove bytes a move page by page costs less than the calls that find an aligned place.
const alignedMove = 4 << 20

// newMemory maps what Map is asked for.
func newMemory(technique Technique, sharing Sharing, length int, cfg *Config) (*memory, error) {
	if technique < BuildDefault || technique > Memfd { // BuildDefault: there is no shim, as will be said
		return nil, fmt.Errorf("%v: %w", technique, unix.EINVAL)
	}
	if sharing != Private && sharing != Shared {
		return nil, fmt.Errorf("%v, must be Private or Shared: %w", sharing, unix.EINVAL)
	}
	if cfg.Reserve < 0 || cfg.Huge < HugeNone || cfg.Huge > HugeExplicit {
		return nil, fmt.Errorf("Config.Reserve %d, Config.Huge %d: %w", cfg.Reserve, cfg.Huge, unix.EINVAL)
	}
	var mem *memory
	var err error
	switch {
	case cfg.Huge == HugeExplicit:
		mem, err = mapHuge(technique, sharing, length, cfg)
	case technique == Memfd || cfg.Reserve > 0 || cfg.Guard || cfg.Huge == HugeTransparent:
		mem, err = mapFramed(technique, sharing, length, cfg)
	default:
		var addr unsafe.Pointer
		addr, err = mapMemory(technique, sharing, length)
		mem = &memory{addr: addr, length: length, fd: -1, prot: ReadWrite}
	}
	if err != nil {
		return nil, err
	}
	if sharing == Shared {
		mem.object = pages(max(length, cfg.Reserve)) * os.Getpagesize()
		if mem.huge == HugeExplicit {
			mem.object = mem.frame.room
		}
	}
	mem.eager = cfg.Populate
	mem.name(cfg.Name)
	if cfg.Populate {
		if err := mem.populate(0, length); err != nil {
			_ = mem.unmap()
			return nil, err
		}
	}
	return mem, nil
}

// mapFramed maps within a frame of its own.
func mapFramed(technique Technique, sharing Sharing, length int, cfg *Config) (*memory, error) {
	if length <= 0 || max(length, cfg.Reserve) > math.MaxInt/2 {
		_, err := Mmap(nil, length, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
		if err == nil { // on the Reserve's account
			err = unix.ENOMEM
		}
		return nil, os.NewSyscallError("mmap", err)
	}
	room := pages(max(length, cfg.Reserve)) * os.Getpagesize()
	mem := &memory{length: length, fd: -1, prot: ReadWrite, guard: cfg.Guard, huge: cfg.Huge, sized: technique == Memfd && sharing == Shared}
	if mem.sized {
		mem.live = new(atomic.Int64)
	}
	if err := mem.enclose(room); err != nil {
		return nil, err
	}
	if err := mem.fill(technique, sharing, cfg); err != nil {
		_ = mem.unmap()
		return nil, err
	}
	return mem, nil
}

// enclose finds a frame for room bytes, all of it without access.
func (mem *memory) enclose(room int) error {
	page := os.Getpagesize()
	below, above, align := 0, 0, page
	if mem.guard {
		below, above = page, page
	}
	switch mem.huge {
	case HugeTransparent:
		align = hugepage.Transparent()
	case HugeExplicit:
		align = hugepage.Explicit()
	}
	span := below + room + above
	base, err := Mmap(nil, span+align-page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	// What is too much, for the alignment's sake, goes again.
	skip := int(-(uintptr(base) + uintptr(below)) & uintptr(align-1))
	if rest := align - page - skip; rest > 0 {
		_ = Munmap(unsafe.Add(base, skip+span), rest)
	}
	if skip > 0 {
		_ = Munmap(base, skip)
	}
	mem.frame = &frame{base: unsafe.Add(base, skip), span: span, room: room}
	mem.addr = unsafe.Add(base, skip+below)
	return nil
}

// fill puts memory into an empty frame: all of a shared memfd, so that a child that has it reaches
// what is grown into later, and of others what the length asks for.
func (mem *memory) fill(technique Technique, sharing Sharing, cfg *Config) error {
	room := mem.frame.room
	flags := unix.MAP_PRIVATE
	if sharing == Shared {
		flags = unix.MAP_SHARED
		if cfg.Reserve > 0 {
			flags |= unix.MAP_NORESERVE // what is not grown into is not paid for
		}
	}
	prot, fd := unix.PROT_NONE, -1
	switch {
	case technique == Memfd:
		var err error
		if mem.fd, err = newObject(cfg.Name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING); err != nil {
			return err
		}
		size := room
		if mem.sized {
			size, prot = mem.length, unix.PROT_READ|unix.PROT_WRITE
		}
		if err := mem.growObject(0, size, mem.sized && cfg.Populate); err != nil {
			return err
		}
		fd = mem.fd
	case technique == DevZero:
		var err error
		if fd, err = unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("open /dev/zero", err)
		}
		defer unix.Close(fd)
	case sharing == Private:
		flags = 0 // the frame itself is such memory
	default:
		flags |= unix.MAP_ANONYMOUS
	}
	if flags != 0 {
		if _, err := Mmap(mem.addr, room, prot, flags|unix.MAP_FIXED, fd, 0); err != nil {
			return os.NewSyscallError("mmap", err)
		}
	}
	if mem.huge == HugeTransparent {
		if err := mem.advise(0, room, unix.MADV_HUGEPAGE); err != nil {
			return err
		}
	}
	if mem.sized {
		return mem.listObject()
	}
	return mem.protect(0, mem.length, mem.prot)
}

func newObject(name string, flags int) (fd int, err error) {
	if name == "" {
		name = "shm"
	}
	name = strings.ReplaceAll(name, "\x00", "")
	fd, err = unix.MemfdCreate(name[:min(len(name), 249)], flags)
	return fd, os.NewSyscallError("memfd_create", err)
}

// mapHuge maps by MAP_HUGETLB or, if no such pages are left, maps the length that was asked for by
// usual ones. The kernel sets the pages aside at mmap: the first touch finds them.
func mapHuge(technique Technique, sharing Sharing, length int, cfg *Config) (*memory, error) {
	if technique == DevZero {
		return nil, fmt.Errorf("Config.Huge: HugeExplicit of /dev/zero: %w", errors.ErrUnsupported)
	}
	if cfg.Reserve > 0 || cfg.Guard {
		return nil, fmt.Errorf("Config.Huge: HugeExplicit with Reserve or Guard: %w", errors.ErrUnsupported)
	}
	usual := *cfg
	usual.Huge = HugeNone
	size := hugepage.Explicit()
	if length <= 0 || length > math.MaxInt-size {
		return newMemory(technique, sharing, length, &usual)
	}
	room := (length + size - 1) &^ (size - 1)
	flags := unix.MAP_PRIVATE
	if sharing == Shared {
		flags = unix.MAP_SHARED
	}
	mem := &memory{length: length, fd: -1, prot: ReadWrite, huge: HugeExplicit}
	if technique == Memfd && sharing == Shared {
		mem.live = new(atomic.Int64)
	}
	if err := mem.fillHuge(technique, flags, room, cfg.Name); err != nil {
		if mem.frame != nil {
			_ = mem.unmap()
		} else {
			mem.closeObject()
		}
		return newMemory(technique, sharing, length, &usual)
	}
	return mem, nil
}

func (mem *memory) fillHuge(technique Technique, flags, room int, name string) (err error) {
	if technique != Memfd {
		flags |= unix.MAP_ANONYMOUS | unix.MAP_HUGETLB
	} else if mem.fd, err = newObject(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_HUGETLB); err != nil {
		return err
	} else if err := mem.growObject(0, room, false); err != nil {
		return err
	}
	if err := mem.enclose(room); err != nil {
		return err
	}
	if _, err := Mmap(mem.addr, room, unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_FIXED, mem.fd, 0); err != nil {
		return err
	}
	if mem.live != nil {
		return mem.listObject()
	}
	return nil
}

// growObject makes the object behind a memfd larger; reserved, by memory that is really there.
func (mem *memory) growObject(from, to int, reserved bool) error {
	if !reserved {
		return os.NewSyscallError("ftruncate", unix.Ftruncate(mem.fd, int64(to)))
	}
	for {
		err := unix.Fallocate(mem.fd, 0, int64(from), int64(to-from))
		if err == unix.EINTR {
			continue
		}
		return os.NewSyscallError("fallocate", err)
	}
}

func (mem *memory) objectLen() (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(mem.fd, &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	if st.Size > math.MaxInt {
		return 0, fmt.Errorf("an object of %d bytes: %w", st.Size, os.NewSyscallError("fstat", unix.EOVERFLOW))
	}
	return int(st.Size), nil
}

func (mem *memory) closeObject() {
	mem.unlistObject()
	if mem.fd >= 0 {
		_ = unix.Close(mem.fd)
		mem.fd = -1
	}
}

func (mem *memory) unmap() error {
	var err error
	if mem.frame == nil {
		err = Munmap(mem.addr, mem.length)
	} else {
		err = Munmap(mem.frame.base, mem.frame.span)
	}
	if err != nil {
		return os.NewSyscallError("munmap", err)
	}
	mem.closeObject()
	return nil
}

// settleAt gives up the frame for the length bytes that were moved out of it.
func (mem *memory) settleAt(length int) {
	mem.guard = false
	if mem.frame = nil; mem.fd >= 0 {
		mem.frame = &frame{base: mem.addr, span: length, room: length}
	}
}

// unmapAround unmaps what the frame has besides length bytes from addr on, which are another's now.
func (f *frame) unmapAround(addr unsafe.Pointer, length int) error {
	below := int(uintptr(addr) - uintptr(f.base))
	var err error
	if below > 0 {
		err = Munmap(f.base, below)
	}
	if above := f.span - below - length; above > 0 {
		err = errors.Join(err, Munmap(unsafe.Add(addr, length), above))
	}
	return os.NewSyscallError("munmap", err)
}

// resizeFramed is Resize of what has a frame. It changes nothing, or all.
func (m *Mapping) resizeFramed(length int, move Move, evenLive bool) error {
	mem := m.mem
	page := os.Getpagesize()
	if length <= 0 {
		return os.NewSyscallError("mremap", unix.EINVAL)
	}
	if length > math.MaxInt/2 {
		return os.NewSyscallError("mremap", unix.ENOMEM)
	}
	if mem.huge == HugeExplicit {
		if length > mem.frame.room {
			return fmt.Errorf("mapped by MAP_HUGETLB, in a room of %d bytes: %w", mem.frame.room, errors.ErrUnsupported)
		}
		mem.length = length
		return nil
	}
	undo := func() {}
	if mem.sized {
		size, err := mem.objectLen()
		if err != nil {
			return err
		}
		if length < mem.length {
			return mem.shrinkObject(length, mem.live.Load(), evenLive)
		}
		undo = func() { // unless another process has grown it further meanwhile
			if now, err := mem.objectLen(); err == nil && now > size && now <= length {
				_ = unix.Ftruncate(mem.fd, int64(size))
			}
		}
		if size < length || mem.eager { // it may be longer than what was allocated of it
			if err := mem.growObject(min(size, mem.length), length, mem.eager); err != nil {
				undo()
				return err
			}
		}
	}
	if needed := pages(length) * page; mem.fd >= 0 && !mem.sized && needed > mem.frame.room {
		// The object of a private memfd never shrinks: that would take a child's copies away too.
		if size, err := mem.objectLen(); err != nil {
			return err
		} else if size < needed {
			if err := mem.growObject(size, needed, false); err != nil {
				return err
			}
		}
	}
	err := m.growFramed(length, pages(length)*page, move)
	if err != nil {
		undo()
	}
	return err
}

// shrinkObject shrinks what is behind a shared memfd, for all who map it.
func (mem *memory) shrinkObject(length int, live int64, evenLive bool) error {
	if live > 0 && !evenLive {
		return fmt.Errorf("%d of them: %w", live, ErrLive)
	}
	if err := unix.Ftruncate(mem.fd, int64(length)); err != nil {
		return os.NewSyscallError("ftruncate", err)
	}
	if page := os.Getpagesize(); mem.locked && pages(length) < pages(mem.length) { // the room stays mapped
		_ = mem.lock(pages(length)*page, (pages(mem.length)-pages(length))*page, false)
	}
	mem.length = length
	return nil
}

// growFramed changes what of the frame is in use, or finds a larger frame; needed is the length in
// whole pages.
func (m *Mapping) growFramed(length, needed int, move Move) error {
	mem := m.mem
	page := os.Getpagesize()
	from, to := pages(mem.length)*page, needed
	if room := mem.frame.room; needed > room {
		// Of a limit mremap tells only for what is locked, and afterwards it would be too late.
		early := mem.sized && mem.locked && room > from
		if early {
			if err := mem.lockAdded(from, room-from); err != nil {
				_ = mem.lock(from, room-from, false)
				return err
			}
		}
		if err := m.leaveFrame(needed, move); err != nil {
			if early {
				_ = mem.lock(from, room-from, false)
			}
			return err
		}
	}
	switch {
	case to < from: // its pages are given back, and read zero if they come again
		if err := mem.protect(to, from-to, NoAccess); err != nil {
			return err
		}
		if mem.locked {
			_ = mem.lock(to, from-to, false)
		}
		if m.sharing == Private {
			if err := mem.advise(to, from-to, unix.MADV_DONTNEED); err != nil { // mlockall(2) may have locked it
				_ = mem.lock(to, from-to, false)
				if err = mem.advise(to, from-to, unix.MADV_DONTNEED); err != nil {
					_ = mem.protect(to, from-to, mem.prot)
					return err
				}
			}
		}
	case to > from:
		if err := m.openUp(from, to-from); err != nil {
			return err
		}
	}
	mem.length = length
	return nil
}

// openUp makes n bytes at off a part of the mapping.
func (m *Mapping) openUp(off, n int) error {
	mem := m.mem
	close := func() {}
	if !mem.sized {
		if err := mem.protect(off, n, mem.prot); err != nil {
			return err
		}
		close = func() { _ = mem.protect(off, n, NoAccess) }
	}
	if mem.locked {
		if err := mem.lockAdded(off, n); err != nil {
			_ = mem.lock(off, n, false)
			close()
			return err
		}
	}
	if mem.eager {
		if err := mem.populate(off, n); err != nil {
			if mem.locked {
				_ = mem.lock(off, n, false)
			}
			close()
			return err
		}
	}
	return nil
}

// lockAdded locks what is added to a locked mapping. mlock(2) refuses what it cannot fault in, so memory
// that is to have no access has some while it is locked.
func (mem *memory) lockAdded(off, n int) error {
	if mem.prot != NoAccess {
		return mem.lock(off, n, true)
	}
	if err := mem.protect(off, n, ReadWrite); err != nil {
		return err
	}
	err := mem.lock(off, n, true)
	return errors.Join(err, mem.protect(off, n, NoAccess))
}

// leaveFrame gives the mapping a room of that many bytes, and its length stays.
func (m *Mapping) leaveFrame(room int, move Move) error {
	mem, old := m.mem, *m.mem
	used := pages(mem.length) * os.Getpagesize()
	if mem.sized {
		used = old.frame.room
	}
	split := isSplit(mem.addr, used)
	if !mem.guard && used == old.frame.room { // the mapping is the frame's end
		var err error
		if split {
			err = growSplit(mem.addr, used, room)
		} else {
			_, err = Mremap(mem.addr, used, room, 0, nil)
		}
		if err == nil {
			grown := *old.frame
			grown.span += room - used
			grown.room = room
			mem.frame = &grown
			return m.settle(used, room)
		}
	}
	if move == InPlace {
		return fmt.Errorf("%w: %d bytes are reserved", os.NewSyscallError("mremap", unix.ENOMEM), old.frame.room)
	}
	if err := mem.enclose(room); err != nil {
		mem.addr, mem.frame = old.addr, old.frame
		return err
	}
	next := *mem
	mem.addr, mem.frame = old.addr, old.frame
	var err error
	if split {
		err = moveGrown(old.addr, used, next.addr, room)
	} else {
		_, err = Mremap(old.addr, used, room, moveOnto, next.addr)
	}
	if err != nil {
		if mem := (&memory{addr: next.addr}); mem.isWhole(room) {
			_ = next.frame.unmapAround(next.addr, 0)
		}
		return splitError(err)
	}
	mem.addr, mem.frame = next.addr, next.frame
	_ = old.frame.unmapAround(old.addr, used)
	return m.settle(used, room)
}

// settle takes back the access to what mremap gave beyond what was in use: the frame's rule.
func (m *Mapping) settle(used, room int) error {
	if m.mem.sized {
		return m.mem.listObject()
	}
	return m.mem.protect(used, room-used, NoAccess)
}

// splitError says of EFAULT what it means, as the kernel does not.
func splitError(err error) error {
	if errno, ok := err.(unix.Errno); ok {
		err = os.NewSyscallError("mremap", errno)
		if errno == unix.EFAULT {
			err = fmt.Errorf("%w: a part of the mapping is no longer mapped", err)
		}
	}
	return err
}

// moveAligned grows a large plain mapping, or a split one, to a place that lies to the tables of pages as
// the old one does: then whole tables of pages move, and not page by page.
func (mem *memory) moveAligned(length int, split bool) (unsafe.Pointer, error) {
	if length > math.MaxInt-2*hugepage.Transparent() {
		return nil, unix.ENOMEM
	}
	used, span := pages(mem.length)*os.Getpagesize(), pages(length)*os.Getpagesize()
	to, err := placeLike(mem.addr, span)
	if err != nil {
		return nil, err
	}
	if split {
		err = moveGrown(mem.addr, used, to, span)
	} else {
		_, err = Mremap(mem.addr, used, span, moveOnto, to)
	}
	if err != nil && (&memory{addr: to}).isWhole(span) {
		_ = Munmap(to, span)
	}
	return to, err
}
