//go:build !cgo

package shm

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

type waitStatus = unix.WaitStatus

// These stubs stand for the C shim. Without cgo there is no mapping and no child, so they are never
// called.

func (*forkArgs) fork([]int32, []memoryRange, *sandboxArgs) error { return errNoShim }

func (*forkArgs) askServer(uintptr, uint32) error { return errNoShim }

func serverAnswer(uintptr, uint32, int, time.Duration) (int, error) { return 0, errNoShim }

func isForkersChild(int) bool { return false }

func (*controlPage) giveFunction(ChildFunc, int) {}

func reapByForker(int) {}

func waitID(idType, id, options int,
	usage *unix.Rusage) (wpid int, status unix.WaitStatus, err error) {
	return 0, 0, errNoShim
}

func goHeap() []memoryRange { return nil }

var firstObjects = new(objectTable)

// processToken returns the same number always: without the C shim this package
// does not fork.
func processToken() uint64 { return 1 }

func (*controlPage) awaitSetUp(timeout time.Duration) setUpReport { return setUpReport{} }

func (*controlPage) call(seq uint32, j *job, timeout time.Duration) bool { return false }

func (*controlPage) slot(size uintptr) unsafe.Pointer { return nil }

func (*controlPage) unmap(slot uintptr) {}
