package shm

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
)

// How long is the object behind a shared Memfd mapping? A child's C looks the mapping up by its address, in a table
// that it inherited: see csrc/shm_child.h. The table lies outside the Go heap, which a Lean child lacks.

// objectTable is struct shm_objects.
type objectTable struct {
	next    *objectTable
	entries [100]objectEntry
}

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

// listObject enters a shared memfd into the table, or enters where it is now.
func (mem *memory) listObject() error {
	start := uintptr(mem.addr)
	end := start + uintptr(mem.frame.room)
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

// unlistObject takes a shared memfd out of the table.
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

// keepForStat adds the descriptor by which a child learns the object's length to those that the child keeps.
func (mem *memory) keepForStat(keep []int32) []int32 {
	if mem.entry == nil || int(mem.entry.fd) == mem.fd {
		return keep
	}
	keep = append(keep, int32(mem.entry.fd))
	slices.Sort(keep)
	return keep
}
