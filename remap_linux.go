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

// Resize makes the mapping length bytes long. Pages are moved, never copied, and a failed call
// leaves all as it was.
//
// Shrinking unmaps the pages beyond the new length, in place: what Bytes, At and Slice returned of
// them becomes invalid. On growing again, pages of a private
// mapping read zero; those of a shared one hold their old bytes, since the memory behind it stays.
// Bytes beyond Len in the last page are kept by both.
//
// A shared Anonymous or DevZero mapping cannot grow past the size that it was created with, Reserve
// included: the kernel would say yes, and the first access there be SIGBUS. That is refused with
// ErrGrowShared.
//
// A shared Memfd mapping is as long as the object behind it, for every process. Growing makes the
// object larger, and then the mapping; within what Config.Reserve keeps, a child that was forked
// earlier uses the new bytes at the same address. Shrinking gives the memory back, which is SIGBUS for
// who touches it later: as long as children live that Fork made and Wait has not reaped it is refused
// with ErrLive, unless asked for by Truncate. Bytes beyond the new length are lost.
//
// Within Config.Reserve a mapping grows in place; beyond, it needs MayMove, and keeps no reserve.
// Of what is not Memfd, a child forked earlier is not affected: it has the mapping at the old address,
// in the old length.
//
// A mapping that advice, protection or SwapPages has made several to the kernel is moved part by part.
// See mremap(2).
func (m *Mapping) Resize(length int, move Move) error {
	const op = "resize"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return &Error{op, length, ErrClosed}
	}
	if m.sharing == Shared && !m.mem.tracksObject && length > m.mem.object {
		return &Error{op, length, fmt.Errorf("created with %d bytes: %w", m.mem.object, ErrGrowShared)}
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
	if err := m.resizeReserved(length, InPlace, true); err != nil {
		return &Error{op, length, err}
	}
	return nil
}

// Up to alignedMove bytes a move page by page costs less than the calls that find an aligned place.
const alignedMove = 4 << 20

// resizePlain is Resize of what has nothing kept around it.
func (m *Mapping) resizePlain(length, flags int) error {
	mem, was, old, page := m.mem, m.mem.addr, m.mem.length, os.Getpagesize()
	mayMove := flags != 0
	large := mayMove && length > old && old >= alignedMove
	if large {
		flags = 0 // in place, if that can be
	}
	addr, err := Mremap(was, old, length, flags, nil)
	split := err == unix.EFAULT && length > old
	if split {
		addr, err = was, growLastVMA(was, pages(old)*page, pages(length)*page)
	}
	if err == unix.ENOMEM && (large || split && mayMove) {
		if addr, err = mem.moveAligned(length, split); err != nil && !split {
			addr, err = Mremap(was, old, length, unix.MREMAP_MAYMOVE, nil)
		}
	}
	if err != nil {
		return vmaError(err)
	}
	mem.addr, mem.length = addr, length
	if mem.populate && pages(length) > pages(old) {
		from := pages(old) * page
		if err := mem.faultIn(from, length-from); err != nil {
			_ = Munmap(unsafe.Add(addr, from), pages(length)*page-from)
			mem.length = old
			mem.moveBack(was, from)
			return err
		}
	}
	return nil
}

// moveAligned grows a large plain mapping, or a split one, to a place that lies to the tables of pages as
// the old one does: then whole tables of pages move, and not page by page.
func (mem *memory) moveAligned(length int, split bool) (unsafe.Pointer, error) {
	if length > math.MaxInt-2*hugepage.Transparent() {
		return nil, unix.ENOMEM
	}
	used, span := pages(mem.length)*os.Getpagesize(), pages(length)*os.Getpagesize()
	to, err := reserveAligned(mem.addr, span)
	if err != nil {
		return nil, err
	}
	if split {
		err = moveAndGrow(mem.addr, used, to, span)
	} else {
		_, err = Mremap(mem.addr, used, span, moveOnto, to)
	}
	if err != nil && (&memory{addr: to}).isMapped(span) {
		_ = Munmap(to, span)
	}
	return to, err
}

// moveBack moves a plain mapping back to where it was. Should another thread have got that place
// meanwhile, it stays where it is.
func (mem *memory) moveBack(was unsafe.Pointer, span int) {
	if mem.addr == was {
		return
	}
	if _, err := Mmap(was, span, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, -1, 0); err != nil {
		return
	}
	if err := movePages(mem.addr, was, span); err != nil {
		_ = Munmap(was, span)
		return
	}
	_ = Munmap(mem.addr, span)
	mem.addr = was
}

// resizeFramed is Resize of what has a frame. It changes nothing, or all.
func (m *Mapping) resizeReserved(length int, move Move, evenLive bool) error {
	mem := m.mem
	page := os.Getpagesize()
	if length <= 0 {
		return os.NewSyscallError("mremap", unix.EINVAL)
	}
	if length > math.MaxInt/2 {
		return os.NewSyscallError("mremap", unix.ENOMEM)
	}
	if mem.huge == HugeExplicit {
		if length > mem.reservation.capacity {
			return fmt.Errorf("mapped by MAP_HUGETLB, in a room of %d bytes: %w", mem.reservation.capacity, errors.ErrUnsupported)
		}
		mem.length = length
		return nil
	}
	undo := func() {}
	if mem.tracksObject {
		size, err := mem.objectLen()
		if err != nil {
			return err
		}
		if length < mem.length {
			return mem.shrinkObject(length, mem.liveChildren.Load(), evenLive)
		}
		undo = func() { // unless another process has grown it further meanwhile
			if now, err := mem.objectLen(); err == nil && now > size && now <= length {
				_ = unix.Ftruncate(mem.fd, int64(size))
			}
		}
		if size < length || mem.populate { // it may be longer than what was allocated of it
			if err := mem.growObject(min(size, mem.length), length, mem.populate); err != nil {
				undo()
				return err
			}
		}
	}
	if needed := pages(length) * page; mem.fd >= 0 && !mem.tracksObject && needed > mem.reservation.capacity {
		// The object of a private memfd never shrinks: that would take a child's copies away too.
		if size, err := mem.objectLen(); err != nil {
			return err
		} else if size < needed {
			if err := mem.growObject(size, needed, false); err != nil {
				return err
			}
		}
	}
	err := m.growReserved(length, pages(length)*page, move)
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
func (m *Mapping) growReserved(length, needed int, move Move) error {
	mem := m.mem
	page := os.Getpagesize()
	from, to := pages(mem.length)*page, needed
	if room := mem.reservation.capacity; needed > room {
		// Of a limit mremap tells only for what is locked, and afterwards it would be too late.
		early := mem.tracksObject && mem.locked && room > from
		if early {
			if err := mem.lockAdded(from, room-from); err != nil {
				_ = mem.lock(from, room-from, false)
				return err
			}
		}
		if err := m.growReservation(needed, move); err != nil {
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
		if err := m.commit(from, to-from); err != nil {
			return err
		}
	}
	mem.length = length
	return nil
}

// openUp makes n bytes at off a part of the mapping.
func (m *Mapping) commit(off, n int) error {
	mem := m.mem
	close := func() {}
	if !mem.tracksObject {
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
	if mem.populate {
		if err := mem.faultIn(off, n); err != nil {
			if mem.locked {
				_ = mem.lock(off, n, false)
			}
			close()
			return err
		}
	}
	return nil
}

// leaveFrame gives the mapping a room of that many bytes, and its length stays.
func (m *Mapping) growReservation(room int, move Move) error {
	mem, old := m.mem, *m.mem
	used := pages(mem.length) * os.Getpagesize()
	if mem.tracksObject {
		used = old.reservation.capacity
	}
	split := isManyVMAs(mem.addr, used)
	if !mem.guard && used == old.reservation.capacity { // the mapping is the frame's end
		var err error
		if split {
			err = growLastVMA(mem.addr, used, room)
		} else {
			_, err = Mremap(mem.addr, used, room, 0, nil)
		}
		if err == nil {
			grown := *old.reservation
			grown.size += room - used
			grown.capacity = room
			mem.reservation = &grown
			return m.sealTail(used, room)
		}
	}
	if move == InPlace {
		return fmt.Errorf("%w: %d bytes are reserved", os.NewSyscallError("mremap", unix.ENOMEM), old.reservation.capacity)
	}
	if err := mem.reserve(room); err != nil {
		mem.addr, mem.reservation = old.addr, old.reservation
		return err
	}
	next := *mem
	mem.addr, mem.reservation = old.addr, old.reservation
	var err error
	if split {
		err = moveAndGrow(old.addr, used, next.addr, room)
	} else {
		_, err = Mremap(old.addr, used, room, moveOnto, next.addr)
	}
	if err != nil {
		if mem := (&memory{addr: next.addr}); mem.isMapped(room) {
			_ = next.reservation.unmapAround(next.addr, 0)
		}
		return vmaError(err)
	}
	mem.addr, mem.reservation = next.addr, next.reservation
	_ = old.reservation.unmapAround(old.addr, used)
	return m.sealTail(used, room)
}

// settle takes back the access to what mremap gave beyond what was in use: the frame's rule.
func (m *Mapping) sealTail(used, room int) error {
	if m.mem.tracksObject {
		return m.mem.listObject()
	}
	return m.mem.protect(used, room-used, NoAccess)
}

// MoveTo moves the mapping's pages to where dst is (MREMAP_MAYMOVE|MREMAP_FIXED): dst's own pages
// are gone, and dst is closed by it. m keeps its length; dst must span at least as many pages, or
// the call is refused with ErrRange, as it would replace memory that is not dst's. What Bytes, Addr,
// At and Slice returned, of both, becomes invalid. What is refused leaves both as they were. If the
// kernel fails the move it may have cleared the place already: what is lost by that is closed, and the
// error says so. A mapping that is several to the kernel moves part by part, or not at all.
//
// What Reserve and Guard kept around either of them is given up. HugeExplicit mappings do not move:
// the error wraps [errors.ErrUnsupported]. See mremap(2).
func (m *Mapping) MoveTo(dst *Mapping) error {
	const op = "move"
	pairLock.Lock()
	defer pairLock.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if dst == nil {
		dst = new(Mapping) // as good as closed
	}
	if dst != m {
		dst.mu.Lock()
		defer dst.mu.Unlock()
	}
	if m.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	length := m.mem.length
	if dst.mem == nil {
		return &Error{op, length, fmt.Errorf("the destination: %w", ErrClosed)}
	}
	if m.mem.huge == HugeExplicit || dst.mem.huge == HugeExplicit {
		return &Error{op, length, fmt.Errorf("mapped by MAP_HUGETLB: %w", errors.ErrUnsupported)}
	}
	if pages(length) > pages(dst.mem.length) {
		return &Error{op, length, fmt.Errorf("onto a mapping of %d bytes: %w, map it larger", dst.mem.length, ErrRange)}
	}
	moved := pages(length) * os.Getpagesize()
	addr, err := dst.mem.addr, error(nil)
	if isManyVMAs(m.mem.addr, moved) {
		err = moveManyVMAs(m.mem.addr, addr, moved)
	} else {
		_, err = Mremap(m.mem.addr, length, length, moveOnto, addr)
	}
	if err != nil {
		err = vmaError(err)
		switch {
		case !m.mem.isMapped(moved): // a part of it moved: neither is what it was
			if dst.mem.isMapped(moved) {
				_ = dst.mem.unmap()
			}
			dst.markClosed()
			m.markClosed()
			err = fmt.Errorf("%w, in its midst: both are lost, and closed", err)
		case !dst.mem.isMapped(moved):
			dst.markClosed()
			err = fmt.Errorf("%w, when the place was cleared: it is closed", err)
		}
		return &Error{op, length, err}
	}
	if m.mem.reservation != nil {
		_ = m.mem.reservation.unmapAround(m.mem.addr, moved)
	}
	m.mem.addr = addr
	m.mem.leaveReservation(moved)
	if m.mem.entry != nil {
		_ = m.mem.listObject() // cannot fail: it has its entry
	}

	// What was moved over is m's now. Should the rest of dst not go, dst still holds it.
	if dst.mem.reservation != nil {
		if err := dst.mem.reservation.unmapAround(dst.mem.addr, moved); err != nil {
			err = fmt.Errorf("moved, but some of what was kept around dst stays: %w", err)
			dst.markClosed()
			return &Error{op, length, err}
		}
	} else if rest := dst.mem.length - moved; rest > 0 {
		dst.mem.addr, dst.mem.length = unsafe.Add(dst.mem.addr, moved), rest
		if err := dst.mem.unmap(); err != nil {
			return &Error{op, length, fmt.Errorf("moved, but the rest of dst stays until it is closed: %w", err)}
		}
	}
	dst.markClosed()
	return nil
}

// moving is held by who holds the locks of two mappings, so that no two wait for each other.
var pairLock sync.Mutex

func init() { hook.Locks = append(hook.Locks, &pairLock) }
