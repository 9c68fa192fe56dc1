package shm

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/hugepage"
)

func (move Move) flags() (int, error) {
	switch move {
	case InPlace:
		return 0, nil
	case MayMove:
		return unix.MREMAP_MAYMOVE, nil
	}
	return 0, fmt.Errorf("Move(%d), must be InPlace or MayMove: %w", int(move), unix.EINVAL)
}

// Resize makes the mapping length bytes long. Resize moves pages and never
// copies them. A call that fails changes nothing.
//
// Within Config.Reserve a mapping grows in place. Beyond Config.Reserve a
// mapping may have to move, which only MayMove allows. After a move it has no
// reserve. After a move, what Bytes, Addr, At and Slice returned before is
// invalid.
//
// A mapping shrinks in place. After shrinking, what Bytes, At and Slice
// returned beyond the new length is invalid. If the mapping grows again, the
// pages that it gets back read zero in a private mapping. They hold their old
// bytes in a shared Anonymous or DevZero mapping, since the memory behind it
// stays. In these mappings, the last page keeps its bytes beyond the new
// length.
//
// A shared Anonymous or DevZero mapping cannot grow past the size that it was
// created with, which includes Config.Reserve. The kernel would allow it, but
// the first access to the new memory would be SIGBUS. Resize refuses with
// ErrGrowShared.
//
// A shared Memfd mapping is as long as the object behind it, for every process.
// Growing makes the object larger, and then the mapping. Within Config.Reserve,
// a child that was forked earlier can use the new bytes at the same address.
// Shrinking gives the object's memory back. The bytes beyond the new length are
// lost, and a later access to them is SIGBUS. So Resize refuses to shrink with
// ErrLive while there is a child that Fork made and Wait has not reaped.
// Truncate shrinks the mapping even then.
//
// Resizing any other mapping does not change a child that was forked earlier.
// The child has the mapping at the old address, with the old length.
//
// Advice, protection and SwapPages can make the kernel manage a mapping as
// several areas (VMAs). Resize moves the areas one by one. Before Linux 5.13
// such a move fails with an error that wraps [errors.ErrUnsupported], unless the
// mapping is Private and Anonymous. See mremap(2).
func (m *Mapping) Resize(length int, move Move) error {
	const op = "resize"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return &Error{op, length, ErrClosed}
	}
	if m.sharing == Shared && !m.mem.tracksObject && length > m.mem.object {
		return &Error{op, length, fmt.Errorf("the mapping was created with %d bytes: %w",
			m.mem.object, ErrGrowShared)}
	}
	flags, err := move.flags()
	if err != nil {
		return &Error{op, length, err}
	}
	if m.mem.reservation != nil {
		err = m.resizeReserved(length, move, false)
	} else {
		err = m.resizePlain(length, flags)
	}
	if err != nil {
		return &Error{op, length, err}
	}
	return nil
}

func init() {
	hook.Grow = func(m any, least, wish int) (int, int, error) { return m.(*Mapping).growInReserve(least, wish) }
}

// growInReserve is Resize of a shared Memfd mapping within its reserve: see
// hook.Grow.
func (m *Mapping) growInReserve(least, wish int) (length, capacity int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.mem == nil:
		return 0, 0, &Error{"grow", least, ErrClosed}
	case !m.mem.tracksObject || m.mem.reservation == nil || m.mem.huge == HugeExplicit:
		return m.mem.length, m.mem.length, nil
	}
	capacity = m.mem.reservation.capacity
	if least > m.mem.length && least <= capacity {
		if err = m.resizeReserved(min(max(least, wish), capacity), InPlace, false); err != nil {
			err = &Error{"grow", least, err}
		}
	}
	return m.mem.length, max(capacity, m.mem.length), err
}

// Truncate shrinks a shared Memfd mapping, even while children that share it
// are live. In such a child, an access beyond the new length is SIGBUS. A
// length that is greater than Len is ErrRange. For other mappings the error
// wraps [errors.ErrUnsupported]. See ftruncate(2).
func (m *Mapping) Truncate(length int) error {
	const op = "truncate"
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.needObject(); err != nil {
		return &Error{op, length, err}
	}
	if length > m.mem.length {
		return &Error{op, length, fmt.Errorf("%w of a mapping of %d bytes (use Resize to grow)",
			ErrRange, m.mem.length)}
	}
	if err := m.resizeReserved(length, InPlace, true); err != nil {
		return &Error{op, length, err}
	}
	return nil
}

// alignedMove is the least length, in bytes, for which an aligned place is
// sought before a move. A shorter mapping moves page by page in less time than
// the calls take that find such a place.
const alignedMove = 4 << 20

// resizePlain is Resize for a mapping that has no reservation.
func (m *Mapping) resizePlain(length, flags int) error {
	mem, oldAddr, oldLength, page := m.mem, m.mem.addr, m.mem.length, os.Getpagesize()
	mayMove := flags != 0
	large := mayMove && length > oldLength && oldLength >= alignedMove
	if large {
		flags = 0 // growing in place is tried first
	}
	addr, err := Mremap(oldAddr, oldLength, length, flags, nil)
	manyVMAs := err == unix.EFAULT && length > oldLength
	if manyVMAs {
		addr, err = oldAddr, growLastVMA(oldAddr, pages(oldLength)*page, pages(length)*page)
	}
	if err == unix.ENOMEM && (large || manyVMAs && mayMove) {
		if addr, err = mem.moveAligned(length, manyVMAs); err != nil && !manyVMAs {
			addr, err = Mremap(oldAddr, oldLength, length, unix.MREMAP_MAYMOVE, nil)
		}
	}
	if err != nil {
		return vmaError(err)
	}
	mem.addr, mem.length = addr, length
	if mem.populate && pages(length) > pages(oldLength) {
		from := pages(oldLength) * page
		if err := mem.faultIn(from, length-from); err != nil {
			_ = Munmap(unsafe.Add(addr, from), pages(length)*page-from)
			mem.length = oldLength
			mem.moveBack(oldAddr, from)
			return err
		}
	}
	return nil
}

// moveAligned moves a mapping without a reservation to a place where it can be
// length bytes long. The place is aligned to huge pages in the same way as the
// old one, so that the kernel moves whole page tables.
func (mem *memory) moveAligned(length int, manyVMAs bool) (unsafe.Pointer, error) {
	if length > math.MaxInt-2*hugepage.Transparent() {
		return nil, unix.ENOMEM
	}
	used, size := pages(mem.length)*os.Getpagesize(), pages(length)*os.Getpagesize()
	to, err := reserveAligned(mem.addr, size)
	if err != nil {
		return nil, err
	}
	if manyVMAs {
		err = moveAndGrow(mem.addr, used, to, size)
	} else {
		_, err = Mremap(mem.addr, used, size, moveOnto, to)
	}
	if err != nil && (&memory{addr: to}).isMapped(size) {
		_ = Munmap(to, size)
	}
	return to, err
}

// moveBack moves a mapping without a reservation back to where it was. If
// another thread has mapped memory there meanwhile, the mapping stays where it
// is.
func (mem *memory) moveBack(oldAddr unsafe.Pointer, size int) {
	if mem.addr == oldAddr {
		return
	}
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE
	if _, err := Mmap(oldAddr, size, unix.PROT_NONE, flags, -1, 0); err != nil {
		return
	}
	if err := movePages(mem.addr, oldAddr, size); err != nil {
		_ = Munmap(oldAddr, size)
		return
	}
	_ = Munmap(mem.addr, size)
	mem.addr = oldAddr
}

// resizeReserved is Resize for a mapping that has a reservation. It changes
// everything or nothing.
func (m *Mapping) resizeReserved(length int, move Move, evenLive bool) error {
	mem := m.mem
	switch {
	case length <= 0:
		return os.NewSyscallError("mremap", unix.EINVAL)
	case length > math.MaxInt/2:
		return os.NewSyscallError("mremap", unix.ENOMEM)
	case mem.huge == HugeExplicit:
		return mem.resizeHuge(length)
	case mem.tracksObject && length < mem.length:
		return mem.shrinkObject(length, evenLive)
	}
	undo, err := mem.fitObject(length)
	if err != nil {
		return err
	}
	if err := m.setLength(length, move); err != nil {
		undo()
		return err
	}
	return nil
}

// resizeHuge changes the length within the huge pages that are mapped.
func (mem *memory) resizeHuge(length int) error {
	if capacity := mem.reservation.capacity; length > capacity {
		return fmt.Errorf("a HugeExplicit mapping cannot grow past its huge pages, %d bytes: %w",
			capacity, errors.ErrUnsupported)
	}
	mem.length = length
	return nil
}

// shrinkObject shrinks the object behind a shared memfd, for every process that
// maps the object.
func (mem *memory) shrinkObject(length int, evenLive bool) error {
	if _, err := mem.objectLen(); err != nil {
		return err
	}
	if live := mem.liveChildren.Load(); live > 0 && !evenLive {
		return fmt.Errorf("%d children are not reaped: %w", live, ErrLive)
	}
	if err := unix.Ftruncate(mem.fd, int64(length)); err != nil {
		return os.NewSyscallError("ftruncate", err)
	}
	page := os.Getpagesize()
	if from, to := pages(length)*page, pages(mem.length)*page; mem.locked && from < to {
		_ = mem.lock(from, to-from, false) // these bytes stay mapped, as a part of the capacity
	}
	mem.length = length
	return nil
}

// fitObject makes the object behind a memfd long enough for a mapping of length
// bytes. If the mapping cannot get that length, undo makes a shared memfd's
// object as short as it was.
func (mem *memory) fitObject(length int) (undo func(), err error) {
	needed := pages(length) * os.Getpagesize()
	switch {
	case mem.tracksObject:
		return mem.growSharedObject(length)
	case mem.fd >= 0 && needed > mem.reservation.capacity:
		return func() {}, mem.growPrivateObject(needed)
	}
	return func() {}, nil
}

func (mem *memory) growSharedObject(length int) (undo func(), err error) {
	size, err := mem.objectLen()
	if err != nil {
		return nil, err
	}
	undo = func() { // unless another process has grown the object further meanwhile
		if now, err := mem.objectLen(); err == nil && now > size && now <= length {
			_ = unix.Ftruncate(mem.fd, int64(size))
		}
	}
	if size < length || mem.populate { // a part of a longer object may not be allocated yet
		if err := mem.growObject(min(size, mem.length), length, mem.populate); err != nil {
			undo()
			return nil, err
		}
	}
	return undo, nil
}

// growPrivateObject grows the object behind a private memfd. The object never
// shrinks: a child that was forked earlier reads from the same object, and
// would lose pages.
func (mem *memory) growPrivateObject(length int) error {
	size, err := mem.objectLen()
	if err != nil || size >= length {
		return err
	}
	return mem.growObject(size, length, false)
}

// setLength gives a mapping that has a reservation another length, and a larger
// reservation if length needs one.
func (m *Mapping) setLength(length int, move Move) error {
	page := os.Getpagesize()
	from, to := pages(m.mem.length)*page, pages(length)*page
	var err error
	if to > m.mem.reservation.capacity {
		err = m.growCapacity(from, to, move)
	}
	switch {
	case err != nil:
		return err
	case to < from:
		err = m.decommit(to, from-to)
	case to > from:
		err = m.commit(from, to-from)
	}
	if err == nil {
		m.mem.length = length
	}
	return err
}

// growCapacity is growReservation for a mapping that may be locked; used is the
// mapping's length in whole pages.
func (m *Mapping) growCapacity(used, capacity int, move Move) error {
	mem := m.mem
	unused := mem.reservation.capacity - used
	if !mem.tracksObject || !mem.locked || unused <= 0 {
		return m.growReservation(capacity, move)
	}
	// mremap(2) checks RLIMIT_MEMLOCK for locked memory only, and a move cannot be undone when
	// mlock(2) finds the limit exceeded afterwards. So all that mremap moves is locked first.
	err := mem.lockAdded(used, unused)
	if err == nil {
		err = m.growReservation(capacity, move)
	}
	if err != nil {
		_ = mem.lock(used, unused, false)
	}
	return err
}

// commit makes n bytes of the reservation at off a part of the mapping.
func (m *Mapping) commit(off, n int) error {
	mem := m.mem
	undo := func() {}
	if !mem.tracksObject {
		if err := mem.protect(off, n, mem.prot); err != nil {
			return err
		}
		undo = func() { _ = mem.protect(off, n, NoAccess) }
	}
	if mem.locked {
		if err := mem.lockAdded(off, n); err != nil {
			_ = mem.lock(off, n, false)
			undo()
			return err
		}
	}
	if mem.populate {
		if err := mem.faultIn(off, n); err != nil {
			if mem.locked {
				_ = mem.lock(off, n, false)
			}
			undo()
			return err
		}
	}
	return nil
}

// decommit takes n bytes at off out of the mapping. They stay reserved. The
// pages of private memory are given back, and read zero when the mapping grows
// again.
func (m *Mapping) decommit(off, n int) error {
	mem := m.mem
	if err := mem.protect(off, n, NoAccess); err != nil {
		return err
	}
	if mem.locked {
		_ = mem.lock(off, n, false)
	}
	if m.sharing == Shared {
		return nil
	}
	err := mem.advise(off, n, unix.MADV_DONTNEED)
	if err != nil { // mlockall(2) may have locked the pages
		_ = mem.lock(off, n, false)
		err = mem.advise(off, n, unix.MADV_DONTNEED)
	}
	if err != nil {
		_ = mem.protect(off, n, mem.prot)
	}
	return err
}

// growReservation gives the mapping a larger capacity. The mapping's length
// stays.
func (m *Mapping) growReservation(capacity int, move Move) error {
	mem := m.mem
	used := pages(mem.length) * os.Getpagesize()
	if mem.tracksObject {
		used = mem.reservation.capacity
	}
	manyVMAs := isManyVMAs(mem.addr, used)
	if !mem.extendReservation(used, capacity, manyVMAs) {
		if move == InPlace {
			return fmt.Errorf("%w: %d bytes are reserved (use MayMove, or a larger Config.Reserve)",
				os.NewSyscallError("mremap", unix.ENOMEM), mem.reservation.capacity)
		}
		if err := mem.replaceReservation(used, capacity, manyVMAs); err != nil {
			return err
		}
	}
	return m.sealTail(used, capacity)
}

// extendReservation grows the reservation in place, together with the used
// bytes that are mapped in it. It reports whether it did.
func (mem *memory) extendReservation(used, capacity int, manyVMAs bool) bool {
	old := mem.reservation
	if mem.guard || used != old.capacity { // the reservation does not end where the mapping ends
		return false
	}
	var err error
	if manyVMAs {
		err = growLastVMA(mem.addr, used, capacity)
	} else {
		_, err = Mremap(mem.addr, used, capacity, 0, nil)
	}
	if err != nil {
		return false
	}
	mem.reservation = &reservation{old.base, old.size + capacity - used, capacity}
	return true
}

// replaceReservation moves the used bytes that are mapped to a new reservation,
// and unmaps the rest of the old one.
func (mem *memory) replaceReservation(used, capacity int, manyVMAs bool) error {
	next := *mem
	if err := next.reserve(capacity); err != nil {
		return err
	}
	var err error
	if manyVMAs {
		err = moveAndGrow(mem.addr, used, next.addr, capacity)
	} else {
		_, err = Mremap(mem.addr, used, capacity, moveOnto, next.addr)
	}
	if err != nil {
		if next.isMapped(capacity) {
			_ = next.reservation.unmapAround(next.addr, 0)
		}
		return vmaError(err)
	}
	oldAddr, old := mem.addr, mem.reservation
	mem.addr, mem.reservation = next.addr, next.reservation
	_ = old.unmapAround(oldAddr, used)
	return nil
}

// sealTail removes the access to what mremap added behind the used bytes:
// reserved memory has none. All of a shared memfd's capacity is accessible, and
// gets a new place in the table of objects.
func (m *Mapping) sealTail(used, capacity int) error {
	if m.mem.tracksObject {
		return m.mem.listObject()
	}
	return m.mem.protect(used, capacity-used, NoAccess)
}

// MoveTo moves the mapping's pages to the address of dst
// (MREMAP_MAYMOVE|MREMAP_FIXED), and closes dst. The pages of dst are lost. The
// length of m stays. After MoveTo, what Bytes, Addr, At and Slice returned of m
// and of dst is invalid. The space that Reserve and Guard keep around m and dst
// is given up.
//
// dst must have at least as many pages as m. If dst has fewer, MoveTo fails
// with ErrRange, as it would replace memory that is not dst's. HugeExplicit
// mappings do not move: the error wraps [errors.ErrUnsupported]. After these
// errors m and dst are as before.
//
// If the kernel fails the move, it may already have unmapped the pages of dst.
// Then MoveTo closes dst, and the error says so. If only a part of m could be
// moved, MoveTo closes both, and the error says so.
//
// The kernel may manage a mapping as several areas (VMAs). MoveTo moves the
// areas one by one, which needs the Linux that Resize needs for it. If an area
// cannot be moved, MoveTo moves the others back. See mremap(2).
func (m *Mapping) MoveTo(dst *Mapping) error {
	const op = "move"
	if dst == nil {
		dst = new(Mapping) // which counts as closed
	}
	defer lockPair(m, dst)()
	if m.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	length := m.mem.length
	if err := m.checkMoveTo(dst); err != nil {
		return &Error{op, length, err}
	}
	size := pages(length) * os.Getpagesize()
	var err error
	if isManyVMAs(m.mem.addr, size) {
		err = moveManyVMAs(m.mem.addr, dst.mem.addr, size)
	} else {
		_, err = Mremap(m.mem.addr, length, length, moveOnto, dst.mem.addr)
	}
	if err != nil {
		return &Error{op, length, m.closeLost(dst, size, vmaError(err))}
	}
	m.leaveFor(dst.mem.addr, size)
	if err := dst.dropRest(size); err != nil {
		return &Error{op, length, err}
	}
	return nil
}

// checkMoveTo says why m cannot move to dst, before the kernel is asked.
func (m *Mapping) checkMoveTo(dst *Mapping) error {
	switch {
	case dst.mem == nil:
		return fmt.Errorf("the destination: %w", ErrClosed)
	case m.mem.huge == HugeExplicit || dst.mem.huge == HugeExplicit:
		return fmt.Errorf("a HugeExplicit mapping cannot move: %w", errors.ErrUnsupported)
	case pages(m.mem.length) > pages(dst.mem.length):
		return fmt.Errorf("the destination has %d bytes: %w (map it larger)", dst.mem.length, ErrRange)
	}
	return nil
}

// closeLost closes the mappings that a failed move unmapped, and adds to err
// which ones these are.
func (m *Mapping) closeLost(dst *Mapping, size int, err error) error {
	switch {
	case !m.mem.isMapped(size): // a part of m has moved, so neither mapping is whole
		if dst.mem.isMapped(size) {
			_ = dst.mem.unmap()
		}
		dst.markClosed()
		m.markClosed()
		return fmt.Errorf("%w: only a part was moved, and both mappings are lost and closed", err)
	case !dst.mem.isMapped(size):
		dst.markClosed()
		return fmt.Errorf("%w: the destination was unmapped, and is closed", err)
	}
	return err
}

// leaveFor unmaps the reservation that the mapping's pages were moved out of,
// and has the mapping begin at addr.
func (m *Mapping) leaveFor(addr unsafe.Pointer, size int) {
	if m.mem.reservation != nil {
		_ = m.mem.reservation.unmapAround(m.mem.addr, size)
	}
	m.mem.addr = addr
	m.mem.leaveReservation(size)
	if m.mem.entry != nil {
		_ = m.mem.listObject() // cannot fail, as the object is in the table already
	}
}

// dropRest closes a mapping whose first size bytes another mapping has
// replaced, and unmaps the rest. If a part of the rest stays, the error says
// so.
func (dst *Mapping) dropRest(size int) error {
	if dst.mem.reservation != nil {
		err := dst.mem.reservation.unmapAround(dst.mem.addr, size)
		dst.markClosed()
		if err != nil {
			return fmt.Errorf("moved, but a part of the destination's reservation stays mapped: %w", err)
		}
		return nil
	}
	if rest := dst.mem.length - size; rest > 0 {
		dst.mem.addr, dst.mem.length = unsafe.Add(dst.mem.addr, size), rest
		if err := dst.mem.unmap(); err != nil {
			return fmt.Errorf("moved, but the destination's last %d bytes stay mapped until it is closed: %w",
				rest, err)
		}
	}
	dst.markClosed()
	return nil
}

// pairLock is held by the goroutine that holds the locks of two mappings.
// Without it, two goroutines that lock the same mappings in a different order
// would wait for each other forever.
var pairLock sync.Mutex

func init() { hook.Locks = append(hook.Locks, &pairLock) }

// lockPair locks two mappings, which may be the same one.
func lockPair(m, other *Mapping) (unlock func()) {
	pairLock.Lock()
	m.mu.Lock()
	if other != m {
		other.mu.Lock()
	}
	return func() {
		if other != m {
			other.mu.Unlock()
		}
		m.mu.Unlock()
		pairLock.Unlock()
	}
}
