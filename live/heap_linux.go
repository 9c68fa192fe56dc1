package live

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/hugepage"
)

// CollapseHeap has the kernel put the Go heap on huge pages, where it can, and
// returns how many bytes of it are on huge pages then. A fork copies page
// tables, and those of huge pages are 512 times smaller: so call it ahead of a
// fork whose pause matters. It takes as long as copying the heap would, while
// the program goes on; memory that the heap has free may come to be resident by
// it. What the heap grows by later is on pages of the usual size again. Plain
// go's programs may call it too.
//
// It fails with [errors.ErrUnsupported] before Linux 6.1, and where transparent
// huge pages are switched off for the process or are no part of the kernel. See
// madvise(2), MADV_COLLAPSE.
func CollapseHeap() (huge int, err error) {
	if hook.GoHeap == nil {
		return 0, errNoCgo
	}
	hugePage := hugepage.Transparent()
	for _, r := range hook.GoHeap() {
		// One at a time: an address of the heap at which there is no memory ends a call.
		for addr := r[0]; addr < r[1]; addr += uintptr(hugePage) {
			switch err := collapse(addr, hugePage); err {
			case nil:
				huge += hugePage
			case unix.ENOMEM, unix.EAGAIN, unix.EBUSY, unix.EINVAL:
			default:
				return huge, fmt.Errorf("live: madvise: %w", err)
			}
		}
	}
	if huge == 0 {
		return 0, fmt.Errorf("live: no page of the heap could be made huge: %w",
			errors.ErrUnsupported)
	}
	return huge, nil
}

func collapse(addr uintptr, length int) error {
	_, _, errno := unix.Syscall(unix.SYS_MADVISE, addr, uintptr(length), unix.MADV_COLLAPSE)
	if errno != 0 {
		return errno
	}
	return nil
}
