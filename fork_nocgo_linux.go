//go:build !cgo

package shm

import (
	"time"

	"golang.org/x/sys/unix"
)

// What fork_linux.go and pool_linux.go ask of the C shim. No mapping and no child is ever there to ask with.

func (*forkOrder) fork([]int32, []memoryRange) error { return errNoShim }

func locate(uintptr) (module string, base uintptr) { return }

func waitPidfd(uintptr, int, *unix.Rusage) (wpid int, status unix.WaitStatus, err error) {
	return 0, 0, errNoShim
}

func goHeap() []memoryRange { return nil }

var serve ChildFunc

// processToken: without the C shim nothing here forks.
func processToken() uint64 { return 1 }

func (*mailbox) ask(child ChildFunc, off, length int, patience time.Duration) (answered bool) {
	return false
}

func (*mailbox) isAnswered() bool { return false }
