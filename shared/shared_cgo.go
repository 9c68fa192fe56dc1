//go:build linux && cgo

package shared

/*
#cgo CFLAGS: -std=gnu11 -D_GNU_SOURCE -fno-plt

#cgo noescape shm_family_start
#cgo nocallback shm_family_start
#cgo noescape shm_owner_self
#cgo nocallback shm_owner_self
#cgo noescape shm_owner_take
#cgo nocallback shm_owner_take
#cgo noescape shm_owner_free
#cgo nocallback shm_owner_free

#include "csrc/slot.c"
#include "csrc/gate.c"
#include "csrc/mutex.c"
#include "csrc/room.c"
#include "csrc/rwmutex.c"
#include "csrc/semaphore.c"
#include "csrc/event.c"
#include "csrc/barrier.c"
#include "csrc/arena.c"
#include "csrc/ring.c"
*/
import "C"

import (
	"embed"
	"fmt"
	"math/rand/v2"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The go command does not hash C files that a preamble includes from a folder (golang/go#24355).
//
//go:embed csrc/*.[ch]
var _ embed.FS

// family is the table of owners that all processes of this program share. It is made before the
// program's own code can fork.
var family, familyErr = startFamily()

func startFamily() (*table, error) {
	// The number tells the program's structures from those of another program.
	if e := C.shm_family_start(C.uint32_t(rand.Uint32() | 1)); e != 0 {
		err := os.NewSyscallError("mmap", unix.Errno(e))
		return nil, fmt.Errorf("shared: the table of owners: %w", err)
	}
	return (*table)(unsafe.Pointer(C.shm_family.table)), nil
}

// ownSelf returns the owner that this process is, or 0 if all slots are taken. C code of this
// process is the same owner.
func ownSelf() uint32 { return uint32(C.shm_owner_self()) }

// takeOwner returns the owner that a free slot stands for, or 0.
func takeOwner(state uint32) uint32 { return uint32(C.shm_owner_take(C.shm_family.table, state)) }

// freeOwner frees a slot whose process has ended.
func freeOwner(owner uint32) { C.shm_owner_free(C.shm_family.table, C.uint32_t(owner)) }
