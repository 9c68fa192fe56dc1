package shm

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/procmaps"
)

// Protection is what may be done with a mapping's memory. What it forbids is SIGSEGV.
type Protection int

const (
	NoAccess  Protection = iota // PROT_NONE
	ReadOnly                    // PROT_READ
	ReadWrite                   // PROT_READ|PROT_WRITE: what a mapping has at first
)

func (p Protection) flags() int {
	switch p {
	case ReadOnly:
		return unix.PROT_READ
	case ReadWrite:
		return unix.PROT_READ | unix.PROT_WRITE
	}
	return unix.PROT_NONE
}

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
	if m.mem.sized || m.mem.huge == HugeExplicit { // the room is mapped already, and is to be alike
		span = m.mem.frame.room
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
	if m.mem.frame != nil && off == 0 && length == m.mem.length && (remembered(advice) || m.mem.huge == HugeExplicit) {
		n = m.mem.frame.room
	}
	if err := m.mem.advise(off, n, advice); err != nil {
		return &Error{op, length, err}
	}
	return nil
}

// remembered says whether the kernel keeps an advice as a property of the memory.
func remembered(advice int) bool {
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
	mem := &memory{fd: fd, prot: ReadWrite, sized: true, eager: true, live: new(atomic.Int64)}
	if err := mem.mapObject(); err != nil {
		if mem.frame != nil {
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
		mem.sized, mem.huge, mem.object = false, HugeExplicit, room
	}
	if err := mem.enclose(room); err != nil {
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

// Truncate is Resize to less for a shared Memfd mapping under live children: whatever they touch
// beyond the new length is SIGBUS in them. See ftruncate(2).
func (m *Mapping) Truncate(length int) error {
	const op = "truncate"
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.needObject(); err != nil {
		return &Error{op, length, err}
	}
	if length > m.mem.length {
		return &Error{op, length, fmt.Errorf("%w of a mapping of %d bytes: it only shrinks", ErrRange, m.mem.length)}
	}
	if err := m.resizeFramed(length, InPlace, true); err != nil {
		return &Error{op, length, err}
	}
	return nil
}

// Huge returns what kind of pages the mapping was had with: HugeNone where HugeExplicit was asked for
// and the machine had none left. How many are huge at the moment is in Stats.
func (m *Mapping) Huge() HugePages {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return HugeNone
	}
	return m.mem.huge
}

// WriteTo writes all of the mapping to w, in pieces of at most 128 KiB. Each piece is copied first, and w gets the
// copy: no lock is held while w runs, and w meets no memory that fails. So w may use the mapping, and so may other
// goroutines. If Resize shrinks the mapping meanwhile, the rest is not written. If Close or MoveTo closes it, the error
// is ErrClosed. Memory that fails is a [FaultError]: all bytes before it were written.
func (m *Mapping) WriteTo(w io.Writer) (n int64, err error) {
	const op = "write out"
	length := int64(m.Len())
	piece := make([]byte, min(length, pieceSize))
	for {
		got, readErr := m.readAt(op, piece[:min(int64(len(piece)), length-n)], n)
		wrote, err := writePiece(w, piece[:got])
		n += int64(wrote)
		switch {
		case err != nil:
			return n, &Error{op, int(length), err}
		case readErr == io.EOF || readErr == nil && n == length:
			return n, nil
		case readErr != nil:
			return n, readErr
		}
	}
}

// ReadFrom reads from r until its end, into the mapping from its first byte on. Bytes beyond what r had stay as they
// are. r reads into other memory, at most 128 KiB at once, which is then copied: no lock is held while r runs, and r
// meets no memory that fails. So r may use the mapping, and so may other goroutines.
//
// If r has more than the mapping can hold the error is ErrRange, the mapping is full, and one byte of r is lost, or
// what was read at once if Resize shrinks the mapping meanwhile. If Close or MoveTo closes the mapping meanwhile, the
// error is ErrClosed. Memory that fails is a [FaultError]: the first n bytes were read.
func (m *Mapping) ReadFrom(r io.Reader) (n int64, err error) {
	const op = "read in"
	length, err := m.openLen(op)
	if err != nil {
		return 0, err
	}
	piece := make([]byte, min(length, pieceSize))
	for {
		room := piece[:max(min(int64(len(piece)), int64(length)-n), 1)] // once it is full, there may be more
		got, readErr := readPiece(r, room)
		if n == int64(length) && got > 0 {
			return n, &Error{op, length, fmt.Errorf("the source has more: %w", ErrRange)}
		}
		wrote, err := m.writeAt(op, room[:got], n)
		n += int64(wrote)
		switch {
		case err != nil:
			return n, err
		case readErr == io.EOF:
			return n, nil
		case readErr != nil:
			return n, &Error{op, length, readErr}
		}
	}
}

// openLen returns the length of a mapping that must not be closed.
func (m *Mapping) openLen(op string) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return 0, &Error{op, 0, ErrClosed}
	}
	return m.mem.length, nil
}

// Stats is what a mapping takes of the machine, in bytes, as this process sees it. See proc(5), smaps.
type Stats struct {
	Mapped       int // whole pages
	Resident     int // in memory
	Proportional int // the same, each page divided by how many processes map it
	PrivateDirty int // written to, and mapped by this process alone
	Huge         int // in huge pages, transparent or explicit
	Locked       int // by Lock or mlock(2)
	Swapped      int
}

// telling is held while a mapping's memory is made to differ from its neighbours'.
var telling sync.Mutex

// Stats returns what the mapping takes now. It reads /proc/self/smaps, which has the kernel look at
// all memory of this process: it is for looking, not for loops.
func (m *Mapping) Stats() (Stats, error) {
	const op = "stat"
	m.mu.Lock() // a Resize of ours must not find it split
	defer m.mu.Unlock()
	if m.mem == nil {
		return Stats{}, &Error{op, 0, ErrClosed}
	}
	telling.Lock()
	defer telling.Unlock()
	from := uintptr(m.mem.addr)
	span := uintptr(pages(m.mem.length)) * uintptr(os.Getpagesize())
	if m.mem.huge == HugeExplicit {
		span = uintptr(m.mem.frame.room)
	}
	stats, joined, err := readStats(from, from+span)
	if err == nil && len(joined) > 0 {
		// The kernel has joined it with neighbours that are like it. So it is made unlike, for a moment.
		var done []part
		for _, j := range joined {
			if err = m.mem.advise(int(j.low-from), int(j.high-j.low), j.unlike()); err != nil {
				break
			}
			done = append(done, j)
		}
		if err == nil {
			stats, joined, err = readStats(from, from+span)
		}
		for _, j := range done {
			_ = m.mem.advise(int(j.low-from), int(j.high-j.low), j.like())
		}
		if err == nil && len(joined) > 0 {
			err = fmt.Errorf("its neighbours change: %w", unix.EAGAIN)
		}
	}
	if err != nil {
		return Stats{}, &Error{op, m.mem.length, err}
	}
	stats.Mapped = clampInt(uint64(span))
	return stats, nil
}

// A part of a mapping is what smaps tells of together, by itself or with a neighbour.
type part struct {
	low, high uintptr
	undumped  bool // it has MADV_DONTDUMP
}

func (p part) like() int {
	if p.undumped {
		return unix.MADV_DONTDUMP
	}
	return unix.MADV_DODUMP
}

func (p part) unlike() int {
	p.undumped = !p.undumped
	return p.like()
}

// readStats adds up what smaps says of the memory from low to high. Where it says that of other memory
// too, the part of low to high that it is joined to is in joined.
func readStats(low, high uintptr) (stats Stats, joined []part, err error) {
	var total procmaps.Usage
	for s, err := range procmaps.Smaps(0) {
		if err != nil {
			return Stats{}, nil, err
		}
		if s.Start >= high || s.End <= low {
			continue
		}
		total.Add(&s.Usage)
		if s.Start < low || s.End > high {
			joined = append(joined, part{max(s.Start, low), min(s.End, high), s.HasFlag("dd")})
		}
	}
	hugetlb := total.PrivateHugetlb + total.SharedHugetlb // which Rss leaves out
	return Stats{
		Resident:     clampInt(total.Rss + hugetlb),
		Proportional: clampInt(total.Pss),
		PrivateDirty: clampInt(total.PrivateDirty),
		Huge:         clampInt(total.AnonHugePages + total.ShmemPmdMapped + total.FilePmdMapped + hugetlb),
		Locked:       clampInt(total.Locked),
		Swapped:      clampInt(total.Swap),
	}, joined, nil
}

// clampInt returns n, or the largest int if n is larger. With 32 bits the kernel's counts can be.
func clampInt(n uint64) int { return int(min(n, math.MaxInt)) }

func mprotect(addr unsafe.Pointer, length int, prot Protection) error {
	_, _, errno := unix.Syscall(unix.SYS_MPROTECT, uintptr(addr), uintptr(length), uintptr(prot.flags()))
	if errno != 0 {
		return os.NewSyscallError("mprotect", errno)
	}
	return nil
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

// populate faults pages in, and keeps what they hold.
func (mem *memory) populate(off, length int) error {
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
	if mem.frame != nil {
		span = mem.frame.room
	}
	_ = unix.Prctl(unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME, uintptr(mem.addr), uintptr(span), uintptr(unsafe.Pointer(p)))
	runtime.KeepAlive(p)
}
