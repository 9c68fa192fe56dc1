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

func pages(length int) int {
	page := os.Getpagesize()
	if length%page > 0 {
		return length/page + 1 // the largest int, too, has its pages
	}
	return length / page
}

func mprotect(addr unsafe.Pointer, length int, prot Protection) error {
	_, _, errno := unix.Syscall(unix.SYS_MPROTECT, uintptr(addr), uintptr(length), uintptr(prot.flags()))
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

const moveOnto = unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED

// errDontUnmap says what EINVAL means, where all arguments are right.
var errDontUnmap = fmt.Errorf("%w: moving pages without unmapping needs Linux 5.7, or 5.13 for memory that is shared, of /dev/zero or of a memfd: %w",
	os.NewSyscallError("mremap", unix.EINVAL), errors.ErrUnsupported)

// splitError says of EFAULT what it means, as the kernel does not.
func vmaError(err error) error {
	if errno, ok := err.(unix.Errno); ok {
		err = os.NewSyscallError("mremap", errno)
		if errno == unix.EFAULT {
			err = fmt.Errorf("%w: a part of the mapping is no longer mapped", err)
		}
	}
	return err
}

// placeLike reserves span bytes, without access. Where that is of use they lie to the size of a huge page as
// addr does: then whole tables of pages, and huge pages, move as such.
func reserveAligned(addr unsafe.Pointer, span int) (unsafe.Pointer, error) {
	extra, size := 0, hugepage.Transparent()
	if span >= size {
		extra = size
	}
	base, err := Mmap(nil, span+extra, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
	if err != nil || extra == 0 {
		return base, err
	}
	skip := int((uintptr(addr) - uintptr(base)) & uintptr(size-1))
	if skip > 0 {
		_ = Munmap(base, skip)
	}
	if extra > skip {
		_ = Munmap(unsafe.Add(base, skip+span), extra-skip)
	}
	return unsafe.Add(base, skip), nil
}

// movePages moves all pages of a range onto another that is mapped, or none. The range stays mapped,
// and reads zero.
func movePages(from, to unsafe.Pointer, span int) error {
	parts, err := vmas(from, span)
	if err != nil {
		return err
	}
	return moveVMAs(from, to, parts)
}

func moveVMAs(from, to unsafe.Pointer, parts []int) error {
	off := 0
	for i, n := range parts {
		_, err := Mremap(unsafe.Add(from, off), n, n, moveOnto|unix.MREMAP_DONTUNMAP, unsafe.Add(to, off))
		if err != nil {
			if err == unix.EINVAL {
				err = errDontUnmap
			}
			remapHole(unsafe.Add(to, off), n)
			if back := moveVMAs(to, from, parts[:i]); back != nil {
				return fmt.Errorf("%w, and back: %w: pages are lost", err, back)
			}
			return err
		}
		off += n
	}
	return nil
}

// plug maps again what a failed mremap may have unmapped before it looked at what it was to move.
func remapHole(addr unsafe.Pointer, span int) {
	_, _ = Mmap(addr, span, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, -1, 0)
}

// moveGrown moves a split mapping onto a place of room bytes, where its last part is grown to the end
// of that; or leaves it as it was.
func moveAndGrow(from unsafe.Pointer, used int, to unsafe.Pointer, room int) error {
	parts, err := vmas(from, used)
	if err != nil {
		return err
	}
	last := parts[len(parts)-1]
	head := used - last
	if err := moveVMAs(from, to, parts[:len(parts)-1]); err != nil {
		return err
	}
	// Not before all else has gone well: this one leaves a hole behind.
	if _, err := Mremap(unsafe.Add(from, head), last, last+room-used, moveOnto, unsafe.Add(to, head)); err != nil {
		remapHole(unsafe.Add(to, head), room-head)
		if back := moveVMAs(to, from, parts[:len(parts)-1]); back != nil {
			return fmt.Errorf("%w, and back: %w: pages are lost", err, back)
		}
		return err
	}
	if head > 0 {
		_ = Munmap(from, head)
	}
	return nil
}

// moveSplit moves a split mapping onto another, or leaves both as they were.
func moveManyVMAs(from, to unsafe.Pointer, span int) error {
	aside, err := reserveAligned(to, span)
	if err != nil {
		return err
	}
	if err = movePages(to, aside, span); err == nil {
		if err = movePages(from, to, span); err == nil {
			_ = Munmap(from, span)
		} else if kept := movePages(aside, to, span); kept != nil {
			return fmt.Errorf("%w, and to put it back: %w: pages are lost", err, kept)
		}
	}
	_ = Munmap(aside, span)
	return err
}

// growSplit grows the last part of a split mapping in place.
func growLastVMA(addr unsafe.Pointer, used, room int) error {
	parts, err := vmas(addr, used)
	if err != nil {
		return err
	}
	last := parts[len(parts)-1]
	_, err = Mremap(unsafe.Add(addr, used-last), last, last+room-used, 0, nil)
	return err
}

// exchange exchanges two ranges by way of a third. The ranges stay mapped throughout, so that no
// other thread's memory comes to lie in them.
func swapRanges(a, b unsafe.Pointer, span int) error {
	aside, err := reserveAligned(a, span)
	if err != nil {
		return err
	}
	kept := error(nil)
	if err = movePages(a, aside, span); err == nil {
		if err = movePages(b, a, span); err == nil {
			if err = movePages(aside, b, span); err != nil {
				kept = movePages(a, b, span)
			}
		}
		if err != nil {
			kept = errors.Join(kept, movePages(aside, a, span))
		}
	}
	if kept != nil { // what aside has is all that is left of it
		return fmt.Errorf("%w, and to put it back: %w: pages are lost", err, kept)
	}
	_ = Munmap(aside, span)
	return err
}

// isSplit says whether a range is more than one mapping to the kernel. For that it asks for a page
// more, in place, which is looked at later.
func isManyVMAs(addr unsafe.Pointer, span int) bool {
	page := os.Getpagesize()
	_, err := Mremap(addr, span, span+page, 0, nil)
	if err == nil {
		_, _ = Mremap(addr, span+page, span, 0, nil)
	}
	return err == unix.EFAULT
}

// partsOf returns how long the parts are that a range is to the kernel, in order. A range with a hole
// is EFAULT.
func vmas(addr unsafe.Pointer, span int) ([]int, error) {
	if !isManyVMAs(addr, span) {
		return []int{span}, nil
	}
	var parts []int
	at, end := uintptr(addr), uintptr(addr)+uintptr(span)
	for v, err := range procmaps.All(0) {
		if err != nil {
			return nil, err
		}
		if v.Start > at || at == end {
			break
		}
		if v.End > at {
			parts = append(parts, int(min(v.End, end)-at))
			at = min(v.End, end)
		}
	}
	if at < end {
		return nil, unix.EFAULT
	}
	return parts, nil
}

// clampInt returns n, or the largest int if n is larger. With 32 bits the kernel's counts can be.
func clampInt(n uint64) int { return int(min(n, math.MaxInt)) }
