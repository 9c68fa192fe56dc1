package shm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
	"forkshm.example/shm/internal/hook"
)

// objectsLock is held by the goroutine that takes an entry of the table or
// frees one.
var objectsLock sync.Mutex

func init() { hook.Locks = append(hook.Locks, &objectsLock) }

// takeEntry copies entry to a free place in the table of objects, and returns
// the place. If no place is free, the table grows.
func takeEntry(entry objectEntry) (*objectEntry, error) {
	objectsLock.Lock()
	defer objectsLock.Unlock()
	for table := firstObjects; ; table = table.next {
		for i := range table.entries {
			if e := &table.entries[i]; e.start == 0 {
				e.fd, e.dev, e.ino = entry.fd, entry.dev, entry.ino
				e.place(entry.start, entry.end)
				return e, nil
			}
		}
		if table.next == nil {
			more, err := Mmap(nil, int(unsafe.Sizeof(objectTable{})), unix.PROT_READ|unix.PROT_WRITE,
				unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
			if err != nil {
				return nil, os.NewSyscallError("mmap", err)
			}
			table.next = (*objectTable)(more)
		}
	}
}

// place writes down where the object is mapped. Another thread may fork at any
// moment. The child sees the entry complete or free.
func (e *objectEntry) place(start, end uintptr) {
	atomic.StoreUintptr(&e.start, 0)
	atomic.StoreUintptr(&e.end, end)
	atomic.StoreUintptr(&e.start, start)
}

// openForStat returns a descriptor that allows fstat(2) and little else
// (O_PATH). A child that has the descriptor can neither write to the object nor
// resize it. If there is no /proc, and no open_tree(2) either, openForStat
// returns fd.
func openForStat(fd int) (int, error) {
	statFD, err := highfd.Open(func() (int, error) {
		return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	})
	if err == nil {
		return statFD, nil
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) {
		return -1, os.NewSyscallError("open", err)
	}
	statFD, err = highfd.Open(func() (int, error) {
		return unix.OpenTree(fd, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLOEXEC)
	})
	if err == nil {
		return statFD, nil
	}
	return fd, nil
}
