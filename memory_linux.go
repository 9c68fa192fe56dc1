package shm

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hugepage"
)

// memory is what is mapped now. It lives apart from its Mapping, as the cleanup of an unreachable
// Mapping must not hold the Mapping itself.
type memory struct {
	addr   unsafe.Pointer
	length int // as asked for: the kernel rounds it up to whole pages

	reservation  *reservation  // what is kept around it, or nil
	fd           int           // of its memfd, or -1
	object       int           // of shared memory, the size that it was created with, in bytes
	tracksObject bool          // a shared memfd, whose object is as long as the mapping
	entry        *objectEntry  // of such a one, what tells its children of the object
	liveChildren *atomic.Int64 // of such a one, the children that Fork made and that are not reaped yet

	prot     Protection
	locked   bool
	huge     HugePages
	guard    bool
	populate bool // Config.Populate
}

// A frame is the address space around a mapping that is kept for it. From base on there are: a page
// without access where there is to be a guard, the mapping, what it may grow into, and a page without
// access again where there is to be a guard.
type reservation struct {
	base     unsafe.Pointer
	size     int // all that is kept, in bytes
	capacity int // what may be grown into, from the mapping's address on; whole pages
}

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
		mem, err = mapReserved(technique, sharing, length, cfg)
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
			mem.object = mem.reservation.capacity
		}
	}
	mem.populate = cfg.Populate
	mem.name(cfg.Name)
	if cfg.Populate {
		if err := mem.faultIn(0, length); err != nil {
			_ = mem.unmap()
			return nil, err
		}
	}
	return mem, nil
}

// mapFramed maps within a frame of its own.
func mapReserved(technique Technique, sharing Sharing, length int, cfg *Config) (*memory, error) {
	if length <= 0 || max(length, cfg.Reserve) > math.MaxInt/2 {
		_, err := Mmap(nil, length, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
		if err == nil { // on the Reserve's account
			err = unix.ENOMEM
		}
		return nil, os.NewSyscallError("mmap", err)
	}
	room := pages(max(length, cfg.Reserve)) * os.Getpagesize()
	mem := &memory{length: length, fd: -1, prot: ReadWrite, guard: cfg.Guard, huge: cfg.Huge, tracksObject: technique == Memfd && sharing == Shared}
	if mem.tracksObject {
		mem.liveChildren = new(atomic.Int64)
	}
	if err := mem.reserve(room); err != nil {
		return nil, err
	}
	if err := mem.mapInto(technique, sharing, cfg); err != nil {
		_ = mem.unmap()
		return nil, err
	}
	return mem, nil
}

// enclose finds a frame for room bytes, all of it without access.
func (mem *memory) reserve(room int) error {
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
	mem.reservation = &reservation{base: unsafe.Add(base, skip), size: span, capacity: room}
	mem.addr = unsafe.Add(base, skip+below)
	return nil
}

// mapInto maps memory into an empty reservation. All of a shared memfd's capacity is accessible, so that a child that
// inherits the mapping can use what Resize adds later. Of other memory, only the mapping's length is accessible.
func (mem *memory) mapInto(technique Technique, sharing Sharing, cfg *Config) (err error) {
	flags := unix.MAP_PRIVATE
	if sharing == Shared {
		flags = unix.MAP_SHARED
		if cfg.Reserve > 0 {
			flags |= unix.MAP_NORESERVE // the kernel charges pages when they are used
		}
	}
	switch {
	case technique == Memfd:
		err = mem.mapMemfd(flags, cfg)
	case technique == DevZero:
		err = mem.mapDevZero(flags)
	case sharing == Shared:
		err = mem.mapFixed(unix.PROT_NONE, flags|unix.MAP_ANONYMOUS, -1)
	default: // the reservation itself is private anonymous memory
	}
	if err != nil {
		return err
	}
	if mem.huge == HugeTransparent {
		if err := mem.advise(0, mem.reservation.capacity, unix.MADV_HUGEPAGE); err != nil {
			return err
		}
	}
	if mem.tracksObject {
		return mem.listObject()
	}
	return mem.protect(0, mem.length, mem.prot)
}

// mapFixed maps the whole capacity over the reservation.
func (mem *memory) mapFixed(prot, flags, fd int) error {
	_, err := Mmap(mem.addr, mem.reservation.capacity, prot, flags|unix.MAP_FIXED, fd, 0)
	return os.NewSyscallError("mmap", err)
}

func (mem *memory) mapMemfd(flags int, cfg *Config) (err error) {
	if mem.fd, err = newObject(cfg.Name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING); err != nil {
		return err
	}
	size, prot := mem.reservation.capacity, unix.PROT_NONE
	if mem.tracksObject {
		size, prot = mem.length, unix.PROT_READ|unix.PROT_WRITE
	}
	if err := mem.growObject(0, size, mem.tracksObject && cfg.Populate); err != nil {
		return err
	}
	return mem.mapFixed(prot, flags, mem.fd)
}

func (mem *memory) mapDevZero(flags int) error {
	fd, err := unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open /dev/zero", err)
	}
	defer unix.Close(fd)
	return mem.mapFixed(unix.PROT_NONE, flags, fd)
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
		mem.liveChildren = new(atomic.Int64)
	}
	if err := mem.mapHugeInto(technique, flags, room, cfg.Name); err != nil {
		if mem.reservation != nil {
			_ = mem.unmap()
		} else {
			mem.closeObject()
		}
		return newMemory(technique, sharing, length, &usual)
	}
	return mem, nil
}

func (mem *memory) mapHugeInto(technique Technique, flags, room int, name string) (err error) {
	if technique != Memfd {
		flags |= unix.MAP_ANONYMOUS | unix.MAP_HUGETLB
	} else if mem.fd, err = newObject(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_HUGETLB); err != nil {
		return err
	} else if err := mem.growObject(0, room, false); err != nil {
		return err
	}
	if err := mem.reserve(room); err != nil {
		return err
	}
	if _, err := Mmap(mem.addr, room, unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_FIXED, mem.fd, 0); err != nil {
		return err
	}
	if mem.liveChildren != nil {
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

// listObject enters a shared memfd into the table, or enters where it is now.
func (mem *memory) listObject() error {
	start := uintptr(mem.addr)
	end := start + uintptr(mem.reservation.capacity)
	if mem.entry != nil {
		mem.entry.place(start, end)
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(mem.fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	fd, err := openForStat(mem.fd)
	if err != nil {
		return err
	}
	mem.entry, err = takeEntry(objectEntry{start, end, int64(fd), uint64(st.Dev), st.Ino})
	if err != nil && fd != mem.fd {
		_ = unix.Close(fd)
	}
	return err
}

// unlistObject takes a shared memfd out of the table.
func (mem *memory) unlistObject() {
	if mem.entry == nil {
		return
	}
	if fd := int(mem.entry.fd); fd != mem.fd {
		_ = unix.Close(fd)
	}
	objectsLock.Lock()
	mem.entry.place(0, 0)
	objectsLock.Unlock()
	mem.entry = nil
}

// keepForStat adds the descriptor by which a child learns the object's length to those that the child keeps.
func (mem *memory) keepForStat(keep []int32) []int32 {
	if mem.entry == nil || int(mem.entry.fd) == mem.fd {
		return keep
	}
	keep = append(keep, int32(mem.entry.fd))
	slices.Sort(keep)
	return keep
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
	if mem.reservation == nil {
		err = Munmap(mem.addr, mem.length)
	} else {
		err = Munmap(mem.reservation.base, mem.reservation.size)
	}
	if err != nil {
		return os.NewSyscallError("munmap", err)
	}
	mem.closeObject()
	return nil
}

// settleAt gives up the frame for the length bytes that were moved out of it.
func (mem *memory) leaveReservation(length int) {
	mem.guard = false
	if mem.reservation = nil; mem.fd >= 0 {
		mem.reservation = &reservation{base: mem.addr, size: length, capacity: length}
	}
}

// unmapAround unmaps what the frame has besides length bytes from addr on, which are another's now.
func (f *reservation) unmapAround(addr unsafe.Pointer, length int) error {
	below := int(uintptr(addr) - uintptr(f.base))
	var err error
	if below > 0 {
		err = Munmap(f.base, below)
	}
	if above := f.size - below - length; above > 0 {
		err = errors.Join(err, Munmap(unsafe.Add(addr, length), above))
	}
	return os.NewSyscallError("munmap", err)
}

func (mem *memory) protect(off, length int, prot Protection) error {
	return mprotect(unsafe.Add(mem.addr, off), length, prot)
}

func (mem *memory) advise(off, length, advice int) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(mem.addr)+uintptr(off), uintptr(length), uintptr(advice))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return os.NewSyscallError("madvise", errno)
	}
}

func (mem *memory) lock(off, length int, locked bool) error {
	trap, call := uintptr(unix.SYS_MLOCK), "mlock"
	if !locked {
		trap, call = unix.SYS_MUNLOCK, "munlock"
	}
	if _, _, errno := unix.Syscall(trap, uintptr(mem.addr)+uintptr(off), uintptr(length), 0); errno != 0 {
		return os.NewSyscallError(call, errno)
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

// populate faults pages in, and keeps what they hold.
func (mem *memory) faultIn(off, length int) error {
	advice := unix.MADV_POPULATE_WRITE
	switch mem.prot {
	case NoAccess:
		return nil
	case ReadOnly:
		advice = unix.MADV_POPULATE_READ
	}
	err := mem.advise(off, length, advice)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.14
		for end := off + length; off < end; off += os.Getpagesize() {
			p := (*uint32)(unsafe.Add(mem.addr, off))
			if mem.prot == ReadWrite {
				atomic.AddUint32(p, 0)
			} else {
				atomic.LoadUint32(p)
			}
		}
		return nil
	}
	return err
}

// name is best effort: kernels built without CONFIG_ANON_VMA_NAME refuse, as do all for files.
func (mem *memory) name(name string) {
	if name == "" {
		return
	}
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return
	}
	span := pages(mem.length) * os.Getpagesize()
	if mem.reservation != nil {
		span = mem.reservation.capacity
	}
	_ = unix.Prctl(unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME, uintptr(mem.addr), uintptr(span), uintptr(unsafe.Pointer(p)))
	runtime.KeepAlive(p)
}

// isWhole says whether the first length bytes are still mapped.
func (mem *memory) isMapped(length int) bool {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(mem.addr), uintptr(length), uintptr(unsafe.Pointer(unsafe.SliceData(make([]byte, pages(length))))))
	return errno != unix.ENOMEM
}
