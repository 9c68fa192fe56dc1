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
// as they should be, and of those behind them some may have been written.
func copyMapped(dst, src []byte) (n int, err error) {
	n, err = tryCopy(dst, src)
	if err == nil || overlap(dst, src) { // half a copy may have changed its own source: of that, nothing is certain
		return n, err
	}
	// In which order copy goes is its own affair. What can be copied is found out page by page.
	for total := min(len(dst), len(src)); n < total; {
		size := min(total-n, toPageEnd(dst[n:]), toPageEnd(src[n:]))
		if _, err := tryCopy(dst[n:n+size], src[n:]); err != nil {
			return n, err
		}
		n += size
	}
	return n, nil
}

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

// callMapped calls another's code with memory that may fault. Only a fault in that memory becomes
// an error: call's panics and runtime.Goexit go their way. Of a fault elsewhere, which would have
// been the end of the program, it makes a panic.
func callMapped(p []byte, call func(p []byte) (int, error)) (int, error) {
	n, err, returned := tryCall(p, call)
	if !returned { // from panic(nil) of a program under GODEBUG=panicnil=1: recover stops it, and tells nobody
		var none any
		panic(none)
	}
	return n, err
}

func tryCall(p []byte, call func(p []byte) (int, error)) (n int, err error, returned bool) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if returned {
			return
		}
		e := recover()
		if f, ok := e.(fault); ok && f.Addr()-addrOf(p) < uintptr(len(p)) {
			n, err, returned = 0, &FaultError{f.Addr()}, true
		} else if e != nil {
			panic(e)
		}
	}()
	n, err = call(p)
	return n, err, true
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
