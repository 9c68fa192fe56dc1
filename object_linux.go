package shm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
)

// objectsLock is held while an entry is taken or given back.
var objectsLock sync.Mutex

func init() { hook.Locks = append(hook.Locks, &objectsLock) }

// takeEntry returns an entry that nobody else has, for what is mapped from start to end.
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
			more, err := Mmap(nil, int(unsafe.Sizeof(objectTable{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0)
			if err != nil {
				return nil, os.NewSyscallError("mmap", err)
			}
			table.next = (*objectTable)(more)
		}
	}
}

// place says where the object is mapped. A fork of another thread's finds the entry complete, or free.
func (e *objectEntry) place(start, end uintptr) {
	atomic.StoreUintptr(&e.start, 0)
	atomic.StoreUintptr(&e.end, end)
	atomic.StoreUintptr(&e.start, start)
}

// openForStat returns a descriptor for fstat(2) alone (O_PATH), so that a child that has it can neither write to the
// object nor resize it. Where that cannot be had, as there is no /proc, it returns fd.
func openForStat(fd int) (int, error) {
	statFD, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == nil {
		return statFD, nil
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) {
		return -1, os.NewSyscallError("open", err)
	}
	if statFD, err = unix.OpenTree(fd, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLOEXEC); err == nil {
		return statFD, nil
	}
	return fd, nil
}
