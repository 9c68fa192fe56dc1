package shm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"unsafe"
)

// ErrFault is the error that every [FaultError] wraps.
var ErrFault = errors.New("memory fault")

// FaultError is the error of ReadAt, WriteAt, ReadFrom, WriteTo and of a
// [Buffer] if an access to memory fails. The kernel sends SIGBUS if the object
// behind the memory became shorter, or if the kernel has no page for it. The
// kernel sends SIGSEGV if the memory was protected or unmapped. The same access
// through Bytes, At or Slice crashes the program.
type FaultError struct {
	Addr uintptr // an address in the page that failed, at or near the byte
}

func (e *FaultError) Error() string { return fmt.Sprintf("%v at address %#x", ErrFault, e.Addr) }

func (e *FaultError) Unwrap() error { return ErrFault }

// fault is the error that the runtime panics with after debug.SetPanicOnFault.
type fault interface {
	runtime.Error
	Addr() uintptr
}

// copyMapped copies as the built-in copy does. If memory of either slice fails,
// copyMapped returns a *FaultError: the first n bytes are copied, and bytes
// behind them may be written. If the slices overlap, n is 0 after an error, and
// any byte of dst may be written.
func copyMapped(dst, src []byte) (n int, err error) {
	total := min(len(dst), len(src))
	dst, src = dst[:total], src[:total]
	if ahead := addrOf(dst) - addrOf(src); ahead != 0 && ahead < uintptr(total) {
		return copyBackward(dst, src)
	}
	n, err = tryCopy(dst, src)
	if err == nil || overlap(dst, src) { // half a copy may have changed the source
		return n, err
	}
	// The built-in copy may copy in any order. So the copy is repeated page by page, up to the page
	// that fails.
	for n < total {
		size := min(total-n, toPageEnd(dst[n:]), toPageEnd(src[n:]))
		if _, err := tryCopy(dst[n:n+size], src[n:]); err != nil {
			return n, err
		}
		n += size
	}
	return n, nil
}

// copyBackward copies to a place that begins within the source. copyBackward
// goes from the last bytes to the first, so that it overwrites no byte before
// it copied that byte. Each piece is copied to other memory first. The built-in
// copy would set the processor's direction flag instead (on amd64 without AVX,
// and on 386). A fault would leave that flag set, and the runtime's own copies
// would then run in the wrong direction.
func copyBackward(dst, src []byte) (n int, err error) {
	var aside [4096]byte
	for end := len(dst); end > 0; {
		start := max(end-len(aside), 0)
		size, err := tryCopy(aside[:], src[start:end])
		if err != nil {
			return 0, err
		}
		if _, err := tryCopy(dst[start:end], aside[:size]); err != nil {
			return 0, err
		}
		end = start
	}
	return len(dst), nil
}

// tryCopy copies as the built-in copy does, and returns a *FaultError if memory
// fails. The slices must not overlap, unless dst begins before src.
func tryCopy(dst, src []byte) (n int, err error) {
	before, done := debug.SetPanicOnFault(true), false // for this goroutine only
	defer func() {
		debug.SetPanicOnFault(before)
		if done { // calling recover would cost more than all else
			return
		}
		switch e := recover().(type) {
		case fault:
			err = &FaultError{e.Addr()}
		default:
			panic(e)
		}
	}()
	n = copy(dst, src)
	done = true
	return n, nil
}

func addrOf(p []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(p))) }

func overlap(a, b []byte) bool {
	return addrOf(a)-addrOf(b) < uintptr(len(b)) || addrOf(b)-addrOf(a) < uintptr(len(a))
}

// toPageEnd returns the number of bytes from the beginning of p to the end of
// that page.
func toPageEnd(p []byte) int {
	page := os.Getpagesize()
	return page - int(addrOf(p)%uintptr(page))
}
