package shm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"unsafe"
)

// ErrFault is what a [FaultError] wraps.
var ErrFault = errors.New("memory fault")

// FaultError is what ReadAt, WriteAt, ReadFrom, WriteTo and a [Buffer] fail with where memory that is mapped cannot
// be used: it is SIGBUS where the object behind it has become shorter or no page is to be had for
// it, SIGSEGV where it was protected or unmapped. Such an access through Bytes, At or Slice crashes
// the program.
type FaultError struct {
	Addr uintptr // in the page that failed, at the byte or near it
}

func (e *FaultError) Error() string { return fmt.Sprintf("%v at address %#x", ErrFault, e.Addr) }

func (e *FaultError) Unwrap() error { return ErrFault }

// fault is what the runtime panics with, once asked to by debug.SetPanicOnFault.
type fault interface {
	runtime.Error
	Addr() uintptr
}

// copyMapped is copy, and a *FaultError if memory on either side fails. Then the first n bytes are
// as they should be, and of those behind them some may have been written. If the sides overlap, n is 0
// then, and nothing is certain.
func copyMapped(dst, src []byte) (n int, err error) {
	total := min(len(dst), len(src))
	dst, src = dst[:total], src[:total]
	if ahead := addrOf(dst) - addrOf(src); ahead != 0 && ahead < uintptr(total) {
		return copyBackward(dst, src)
	}
	n, err = tryCopy(dst, src)
	if err == nil || overlap(dst, src) { // half a copy may have changed its own source
		return n, err
	}
	// The order in which copy copies is not defined. So what can be copied is found out page by page.
	for n < total {
		size := min(total-n, toPageEnd(dst[n:]), toPageEnd(src[n:]))
		if _, err := tryCopy(dst[n:n+size], src[n:]); err != nil {
			return n, err
		}
		n += size
	}
	return n, nil
}

// copyBackward copies to a place that begins within the source. It goes from the last bytes to the first, so that
// none is overwritten before it is copied, and each piece goes by way of other memory. The built-in copy would set
// the processor's direction flag for that (on amd64 without AVX, and on 386). A fault would leave the flag set, and
// what the runtime copies and clears later would go the wrong way.
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

// tryCopy is copy, of what does not overlap or has dst below src, and a *FaultError if memory fails.
func tryCopy(dst, src []byte) (n int, err error) {
	before, done := debug.SetPanicOnFault(true), false // of this goroutine alone
	defer func() {
		debug.SetPanicOnFault(before)
		if done { // recover is what would cost most
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

// toPageEnd returns how many bytes it is from where p begins to the end of that page.
func toPageEnd(p []byte) int {
	page := os.Getpagesize()
	return page - int(addrOf(p)%uintptr(page))
}
