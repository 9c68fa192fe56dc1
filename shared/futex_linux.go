//go:build cgo

package shared

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	futexOpWait = 0 // FUTEX_WAIT
	futexOpWake = 1 // FUTEX_WAKE
)

// futexWait waits while *word is value, for d at most. The wait holds a thread.
func futexWait(word *uint32, value uint32, d time.Duration) {
	limit := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWait,
		uintptr(value), uintptr(unsafe.Pointer(&limit)), 0, 0)
}

// futexWake wakes n of the threads that wait for the word, and returns how many there were.
func futexWake(word *uint32, n int) int {
	woken, _, _ := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWake, uintptr(n), 0, 0, 0)
	return int(woken)
}
