package shm

import (
	"errors"
	"fmt"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hugepage"
	"forkshm.example/shm/internal/procmaps"
)

// pages returns the number of pages that length bytes take.
func pages(length int) int {
	page := os.Getpagesize()
	if length%page > 0 {
		return length/page + 1 // adding page-1 first would overflow near the largest int
	}
	return length / page
}

func mprotect(addr unsafe.Pointer, length int, prot Protection) error {
	_, _, errno := unix.Syscall(unix.SYS_MPROTECT, uintptr(addr), uintptr(length),
		uintptr(prot.flags()))
	if errno != 0 {
		return os.NewSyscallError("mprotect", errno)
	}
	return nil
}

func (p Protection) flags() int {
	switch p {
	case ReadOnly:
		return unix.PROT_READ
	case ReadWrite:
		return unix.PROT_READ | unix.PROT_WRITE
	}
	return unix.PROT_NONE
}

// moveOnto are the flags of an mremap(2) that replaces what is mapped at the
// new address.
const moveOnto = unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED

// errDontUnmap says what EINVAL means when all arguments are right.
var errDontUnmap = fmt.Errorf("%w: moving pages without unmapping needs Linux 5.7, "+
	"or 5.13 for memory that is shared, of /dev/zero or of a memfd: %w",
	os.NewSyscallError("mremap", unix.EINVAL), errors.ErrUnsupported)

// vmaError names the call that failed, and says what EFAULT means.
func vmaError(err error) error {
	if errno, ok := err.(unix.Errno); ok {
		err = os.NewSyscallError("mremap", errno)
		if errno == unix.EFAULT {
			err = fmt.Errorf("%w: a part of the mapping is no longer mapped", err)
		}
	}
	return err
}

// reserveAligned reserves size bytes without access. If size is a huge page or
// more, the place has the same offset within a huge page as addr. Then
// mremap(2) moves huge pages and page tables as a whole.
func reserveAligned(addr unsafe.Pointer, size int) (unsafe.Pointer, error) {
	extra, hugePage := 0, hugepage.Transparent()
	if size >= hugePage {
		extra = hugePage
	}
	base, err := Mmap(nil, size+extra, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
	if err != nil || extra == 0 {
		return base, err
	}
	skip := int((uintptr(addr) - uintptr(base)) & uintptr(hugePage-1))
	if skip > 0 {
		_ = Munmap(base, skip)
	}
	if extra > skip {
		_ = Munmap(unsafe.Add(base, skip+size), extra-skip)
	}
	return unsafe.Add(base, skip), nil
}

// movePages moves the pages of a range onto another range that is mapped. The
// first range stays mapped, and private memory there reads zero. After an error
// no page has moved.
func movePages(from, to unsafe.Pointer, size int) error {
	sizes, err := vmas(from, size)
	if err != nil {
		return err
	}
	return moveVMAs(from, to, sizes)
}

// moveVMAs is movePages for a range that consists of VMAs of these sizes.
func moveVMAs(from, to unsafe.Pointer, sizes []int) error {
	off := 0
	for i, n := range sizes {
		_, err := Mremap(unsafe.Add(from, off), n, n, moveOnto|unix.MREMAP_DONTUNMAP, unsafe.Add(to, off))
		if err != nil {
			if err == unix.EINVAL {
				err = errDontUnmap
			}
			remapHole(unsafe.Add(to, off), n)
			if back := moveVMAs(to, from, sizes[:i]); back != nil {
				return lostError(err, back)
			}
			return err
		}
		off += n
	}
	return nil
}

// lostError is for a move that failed, and that could not be undone.
func lostError(err, undoing error) error {
	return fmt.Errorf("%w, and undoing the move failed: %w: pages are lost", err, undoing)
}

// remapHole reserves the destination of a failed mremap again. mremap(2) may
// unmap the destination before it finds an error. Another thread's memory must
// not come to lie there.
func remapHole(addr unsafe.Pointer, size int) {
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE
	_, _ = Mmap(addr, size, unix.PROT_NONE, flags, -1, 0)
}

// moveAndGrow moves used bytes, which are one VMA or more, to a reserved place
// of capacity bytes. The last VMA grows to the end of the place. After an error
// the bytes are where they were.
func moveAndGrow(from unsafe.Pointer, used int, to unsafe.Pointer, capacity int) error {
	sizes, err := vmas(from, used)
	if err != nil {
		return err
	}
	last := sizes[len(sizes)-1]
	head := used - last
	if err := moveVMAs(from, to, sizes[:len(sizes)-1]); err != nil {
		return err
	}
	// The last VMA moves last, as this move unmaps its old place and could not be undone.
	_, err = Mremap(unsafe.Add(from, head), last, last+capacity-used, moveOnto, unsafe.Add(to, head))
	if err != nil {
		remapHole(unsafe.Add(to, head), capacity-head)
		if back := moveVMAs(to, from, sizes[:len(sizes)-1]); back != nil {
			return lostError(err, back)
		}
		return err
	}
	if head > 0 {
		_ = Munmap(from, head)
	}
	return nil
}

// moveManyVMAs moves a range of several VMAs onto another range, and unmaps the
// first. After an error both ranges are as they were.
func moveManyVMAs(from, to unsafe.Pointer, size int) error {
	aside, err := reserveAligned(to, size)
	if err != nil {
		return err
	}
	if err = movePages(to, aside, size); err == nil {
		if err = movePages(from, to, size); err == nil {
			_ = Munmap(from, size)
		} else if back := movePages(aside, to, size); back != nil {
			return lostError(err, back)
		}
	}
	_ = Munmap(aside, size)
	return err
}

// growLastVMA grows the last VMA of a range in place, so that the range has
// capacity bytes.
func growLastVMA(addr unsafe.Pointer, used, capacity int) error {
	sizes, err := vmas(addr, used)
	if err != nil {
		return err
	}
	last := sizes[len(sizes)-1]
	_, err = Mremap(unsafe.Add(addr, used-last), last, last+capacity-used, 0, nil)
	return err
}

// swapRanges exchanges the pages of two ranges by way of a third range. Both
// ranges stay mapped all the time, so that no other thread's memory can come to
// lie in them. After an error both ranges are as they were.
func swapRanges(a, b unsafe.Pointer, size int) error {
	aside, err := reserveAligned(a, size)
	if err != nil {
		return err
	}
	back := error(nil)
	if err = movePages(a, aside, size); err == nil {
		if err = movePages(b, a, size); err == nil {
			if err = movePages(aside, b, size); err != nil {
				back = movePages(a, b, size)
			}
		}
		if err != nil {
			back = errors.Join(back, movePages(aside, a, size))
		}
	}
	if back != nil { // the third range stays, as it has the only copy of some pages
		return lostError(err, back)
	}
	_ = Munmap(aside, size)
	return err
}

// isManyVMAs reports whether the kernel manages a range as several VMAs, or has
// nothing mapped in a part of it. isManyVMAs asks mremap(2) for one page more,
// in place. mremap checks that the range is one VMA before it looks at the
// space behind.
func isManyVMAs(addr unsafe.Pointer, size int) bool {
	page := os.Getpagesize()
	_, err := Mremap(addr, size, size+page, 0, nil)
	if err == nil {
		_, _ = Mremap(addr, size+page, size, 0, nil)
	}
	return err == unix.EFAULT
}

// vmas returns the sizes of the VMAs that a range consists of, in ascending
// order of their addresses. If a part of the range is not mapped, the error is
// EFAULT.
func vmas(addr unsafe.Pointer, size int) ([]int, error) {
	if !isManyVMAs(addr, size) {
		return []int{size}, nil
	}
	var sizes []int
	at, end := uintptr(addr), uintptr(addr)+uintptr(size)
	for v, err := range procmaps.All(0) {
		if err != nil {
			return nil, err
		}
		if v.Start > at || at == end {
			break
		}
		if v.End > at {
			sizes = append(sizes, int(min(v.End, end)-at))
			at = min(v.End, end)
		}
	}
	if at < end {
		return nil, unix.EFAULT
	}
	return sizes, nil
}

// clampInt returns n, or the largest int if n is larger. On 32-bit machines,
// the kernel's counts can be larger.
func clampInt(n uint64) int { return int(min(n, math.MaxInt)) }
