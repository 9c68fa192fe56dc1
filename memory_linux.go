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

	"forkshm.example/shm/internal/highfd"
	"forkshm.example/shm/internal/hugepage"
)

// memory is the memory that a Mapping has now. It is a type of its own, as the
// cleanup of an unreachable Mapping needs the memory and must not refer to the
// Mapping.
type memory struct {
	addr   unsafe.Pointer
	length int // in bytes, as the caller gave it; the kernel maps whole pages

	reservation  *reservation  // the address space kept around the memory, or nil
	fd           int           // the memfd, or -1
	object       int           // the size that shared memory was created with, in bytes
	tracksObject bool          // a shared memfd, whose object is as long as the mapping
	entry        *objectEntry  // of a shared memfd, the place in the table of objects
	liveChildren *atomic.Int64 // of a shared memfd, the children of Fork that are not reaped yet

	prot     Protection
	locked   bool
	huge     HugePages
	guard    bool
	populate bool // Config.Populate
}

// A reservation is address space that is kept for one mapping. In ascending
// order it consists of a guard page if the mapping has guards, the mapping, the
// space that the mapping may grow into, and another guard page. Guard pages
// have no access.
type reservation struct {
	base     unsafe.Pointer
	size     int // of the whole reservation, in bytes
	capacity int // the most that the mapping can grow to, in bytes; a multiple of the page size
}

// checkMap says why Map cannot do what it is asked for, before the kernel is
// asked. BuildDefault passes: only a build without the C shim has it here, and
// mapping reports that.
func checkMap(technique Technique, sharing Sharing, cfg *Config) error {
	switch {
	case technique < BuildDefault || technique > Memfd:
		return fmt.Errorf("%v, must be one of the named techniques: %w", technique, unix.EINVAL)
	case sharing != Private && sharing != Shared:
		return fmt.Errorf("%v, must be Private or Shared: %w", sharing, unix.EINVAL)
	case cfg.Reserve < 0:
		return fmt.Errorf("Config.Reserve %d, must not be negative: %w", cfg.Reserve, unix.EINVAL)
	case cfg.Huge < HugeNone || cfg.Huge > HugeExplicit:
		return fmt.Errorf("Config.Huge %v, must be HugeNone, HugeTransparent or HugeExplicit: %w",
			cfg.Huge, unix.EINVAL)
	}
	return nil
}

// newMemory maps new memory for Map.
func newMemory(technique Technique, sharing Sharing, length int, cfg *Config) (*memory, error) {
	err := checkMap(technique, sharing, cfg)
	if err != nil {
		return nil, err
	}
	var mem *memory
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

// mapReserved maps memory within a reservation.
func mapReserved(technique Technique, sharing Sharing, length int, cfg *Config) (*memory, error) {
	if length <= 0 || max(length, cfg.Reserve) > math.MaxInt/2 {
		_, err := Mmap(nil, length, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
		if err == nil { // length is valid, so Reserve is too large
			err = unix.ENOMEM
		}
		return nil, os.NewSyscallError("mmap", err)
	}
	capacity := pages(max(length, cfg.Reserve)) * os.Getpagesize()
	mem := &memory{length: length, fd: -1, prot: ReadWrite, guard: cfg.Guard, huge: cfg.Huge}
	if technique == Memfd && sharing == Shared {
		mem.tracksObject = true
		mem.liveChildren = new(atomic.Int64)
	}
	if err := mem.reserve(capacity); err != nil {
		return nil, err
	}
	if err := mem.mapInto(technique, sharing, cfg); err != nil {
		_ = mem.unmap()
		return nil, err
	}
	return mem, nil
}

// reserve makes a reservation with this capacity, all of it without access.
func (mem *memory) reserve(capacity int) error {
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
	size := below + capacity + above
	base, err := Mmap(nil, size+align-page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	// The bytes reserved for the alignment alone are given back.
	skip := int(-(uintptr(base) + uintptr(below)) & uintptr(align-1))
	if rest := align - page - skip; rest > 0 {
		_ = Munmap(unsafe.Add(base, skip+size), rest)
	}
	if skip > 0 {
		_ = Munmap(base, skip)
	}
	mem.reservation = &reservation{base: unsafe.Add(base, skip), size: size, capacity: capacity}
	mem.addr = unsafe.Add(base, skip+below)
	return nil
}

// mapInto maps memory into an empty reservation. All of a shared memfd's
// capacity is accessible, so that a child that inherits the mapping can use
// what Resize adds later. Of other memory, only the mapping's length is
// accessible.
func (mem *memory) mapInto(technique Technique, sharing Sharing, cfg *Config) (err error) {
	flags := unix.MAP_PRIVATE
	if sharing == Shared {
		flags = unix.MAP_SHARED
		if cfg.Reserve > 0 {
			flags |= unix.MAP_NORESERVE // the kernel charges pages when they are used
		}
	}
	switch technique {
	case Anonymous:
		if sharing == Shared { // the reservation itself is private anonymous memory
			err = mem.mapFixed(unix.PROT_NONE, flags|unix.MAP_ANONYMOUS, -1)
		}
	case DevZero:
		err = mem.mapDevZero(flags)
	case Memfd:
		err = mem.mapMemfd(flags, cfg)
	default:
		err = fmt.Errorf("%v, must be Anonymous, DevZero or Memfd: %w", technique, unix.EINVAL)
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
	fd, err := highfd.Open(func() (int, error) {
		return unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0)
	})
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
	fd, err = highfd.Open(func() (int, error) {
		return unix.MemfdCreate(name[:min(len(name), 249)], flags)
	})
	return fd, os.NewSyscallError("memfd_create", err)
}

// mapHuge maps memory by MAP_HUGETLB. If too few huge pages are left, mapHuge
// maps length bytes by pages of the usual size. mmap(2) itself sets the huge
// pages aside, so that a later access finds them.
func mapHuge(technique Technique, sharing Sharing, length int, cfg *Config) (*memory, error) {
	if technique == DevZero {
		return nil, fmt.Errorf("Config.Huge: /dev/zero has no HugeExplicit (use Anonymous or Memfd): %w",
			errors.ErrUnsupported)
	}
	if cfg.Reserve > 0 || cfg.Guard {
		return nil, fmt.Errorf("Config.Huge: HugeExplicit cannot be had with Reserve or Guard: %w",
			errors.ErrUnsupported)
	}
	usual := *cfg
	usual.Huge = HugeNone
	size := hugepage.Explicit()
	if length <= 0 || length > math.MaxInt-size {
		return newMemory(technique, sharing, length, &usual)
	}
	capacity := (length + size - 1) &^ (size - 1)
	flags := unix.MAP_PRIVATE
	if sharing == Shared {
		flags = unix.MAP_SHARED
	}
	mem := &memory{length: length, fd: -1, prot: ReadWrite, huge: HugeExplicit}
	if technique == Memfd && sharing == Shared {
		mem.liveChildren = new(atomic.Int64)
	}
	if err := mem.mapHugeInto(technique, flags, capacity, cfg.Name); err != nil {
		if mem.reservation != nil {
			_ = mem.unmap()
		} else {
			mem.closeObject()
		}
		return newMemory(technique, sharing, length, &usual)
	}
	return mem, nil
}

// hugeObject are the flags of memfd_create(2) for an object of huge pages.
const hugeObject = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING | unix.MFD_HUGETLB

func (mem *memory) mapHugeInto(technique Technique, flags, capacity int, name string) (err error) {
	switch technique {
	case Anonymous:
		flags |= unix.MAP_ANONYMOUS | unix.MAP_HUGETLB
	case Memfd:
		if mem.fd, err = newObject(name, hugeObject); err != nil {
			return err
		}
		if err := mem.growObject(0, capacity, false); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%v, must be Anonymous or Memfd: %w", technique, unix.EINVAL)
	}
	if err := mem.reserve(capacity); err != nil {
		return err
	}
	if err := mem.mapFixed(unix.PROT_READ|unix.PROT_WRITE, flags, mem.fd); err != nil {
		return err
	}
	if mem.liveChildren != nil {
		return mem.listObject()
	}
	return nil
}

// growObject makes the object behind a memfd larger. If allocate is set, the
// kernel allocates the new pages now.
func (mem *memory) growObject(from, to int, allocate bool) error {
	if !allocate {
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

// objectLen returns the length of the object behind the memfd, in bytes.
func (mem *memory) objectLen() (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(mem.fd, &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	if st.Size > math.MaxInt {
		return 0, fmt.Errorf("an object of %d bytes does not fit an int: %w",
			st.Size, os.NewSyscallError("fstat", unix.EOVERFLOW))
	}
	return int(st.Size), nil
}

// listObject puts a shared memfd into the table of objects. If the memfd is
// there already, listObject writes down its new address.
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

// unlistObject takes a shared memfd out of the table of objects.
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

// keepForStat adds a descriptor to those that a child keeps: the one by which
// the child learns the object's length.
func (mem *memory) keepForStat(keep []int32) []int32 {
	if mem.entry == nil || int(mem.entry.fd) == mem.fd {
		return keep
	}
	keep = append(keep, int32(mem.entry.fd))
	slices.Sort(keep)
	return keep
}

// addChild counts a child among those that use the memory. It returns the
// number, or nil if the children are not counted.
func (mem *memory) addChild() *atomic.Int64 {
	if mem.liveChildren != nil {
		mem.liveChildren.Add(1)
	}
	return mem.liveChildren
}

// removeChild undoes addChild. live may be nil.
func removeChild(live *atomic.Int64) {
	if live != nil {
		live.Add(-1)
	}
}

// closeObject closes the memfd, if there is one.
func (mem *memory) closeObject() {
	mem.unlistObject()
	if mem.fd >= 0 {
		_ = unix.Close(mem.fd)
		mem.fd = -1
	}
}

// unmap unmaps the memory with its reservation, and closes the memfd.
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

// leaveReservation gives up the reservation of a mapping that moved to another
// place, where it has length bytes.
func (mem *memory) leaveReservation(length int) {
	mem.guard = false
	if mem.reservation = nil; mem.fd >= 0 {
		mem.reservation = &reservation{base: mem.addr, size: length, capacity: length}
	}
}

// unmapAround unmaps the reservation except for length bytes at addr. Those
// bytes are unmapped already, or belong to another mapping.
func (r *reservation) unmapAround(addr unsafe.Pointer, length int) error {
	below := int(uintptr(addr) - uintptr(r.base))
	var err error
	if below > 0 {
		err = Munmap(r.base, below)
	}
	if above := r.size - below - length; above > 0 {
		err = errors.Join(err, Munmap(unsafe.Add(addr, length), above))
	}
	return os.NewSyscallError("munmap", err)
}

func (mem *memory) protect(off, length int, prot Protection) error {
	return mprotect(unsafe.Add(mem.addr, off), length, prot)
}

func (mem *memory) advise(off, length, advice int) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_MADVISE,
			uintptr(mem.addr)+uintptr(off), uintptr(length), uintptr(advice))
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
	_, _, errno := unix.Syscall(trap, uintptr(mem.addr)+uintptr(off), uintptr(length), 0)
	if errno != 0 {
		return os.NewSyscallError(call, errno)
	}
	return nil
}

// lockAdded locks memory that is added to a locked mapping. mlock(2) faults the
// pages in, and fails if they have no access. So lockAdded gives a NoAccess
// mapping access for the duration of the call.
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

// faultIn faults pages in. Their bytes stay.
func (mem *memory) faultIn(off, length int) error {
	advice := unix.MADV_POPULATE_WRITE
	switch mem.prot {
	case NoAccess:
		return nil
	case ReadOnly:
		advice = unix.MADV_POPULATE_READ
	}
	err := mem.advise(off, length, advice)
	if errors.Is(err, unix.EINVAL) { // Linux before 5.14 does not know the advice
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

// name names the memory in /proc/PID/maps, if the kernel can. A kernel without
// CONFIG_ANON_VMA_NAME cannot, and no kernel names a mapping of a file in this
// way. Errors are ignored.
func (mem *memory) name(name string) {
	if name == "" {
		return
	}
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return
	}
	size := pages(mem.length) * os.Getpagesize()
	if mem.reservation != nil {
		size = mem.reservation.capacity
	}
	_ = unix.Prctl(unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME, uintptr(mem.addr), uintptr(size),
		uintptr(unsafe.Pointer(p)))
	runtime.KeepAlive(p)
}

// isMapped reports whether all of the first length bytes are mapped. msync(2)
// with MS_ASYNC looks for unmapped bytes and does nothing else. mincore(2) would
// want a byte for each page, and a capacity may be all of the address space.
func (mem *memory) isMapped(length int) bool {
	_, _, errno := unix.Syscall(unix.SYS_MSYNC, uintptr(mem.addr),
		uintptr(pages(length)*os.Getpagesize()), unix.MS_ASYNC)
	return errno != unix.ENOMEM
}
