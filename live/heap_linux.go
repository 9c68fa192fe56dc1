package live

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/hugepage"
)

// CollapseHeap asks the kernel to put the Go heap on huge pages, and returns
// how many bytes of the heap are on huge pages then. A fork copies page tables,
// and the tables of huge pages are 512 times smaller. So call CollapseHeap
// before a fork whose pause matters. The call takes as long as copying the heap
// would, and the program goes on meanwhile. Free memory of the heap may become
// resident. Memory that the heap gets later is on pages of the usual size.
// Programs that plain go built may call CollapseHeap, too.
//
// CollapseHeap fails with [errors.ErrUnsupported] before Linux 6.1, and if
// transparent huge pages are switched off for the process or are not in the
// kernel. See madvise(2), MADV_COLLAPSE.
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
