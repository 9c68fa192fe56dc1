//go:build linux && cgo

package shm_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// A program takes the child's function from its own cgo file, by
// shm.ChildFunc(C.increment). A _test.go file cannot use cgo, so these
// functions come from another package.
var increment, pause = ctest.Increment, ctest.Pause

func Example() {
	m, err := shm.Map(shm.Shared, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	value, _ := shm.At[int32](m, 0)
	*value = 1

	child, err := m.Fork(increment, nil) // int increment(void *addr, size_t length)
	if err != nil {
		log.Fatal(err)
	}
	if err := child.Wait(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("value:", *value)
	// Output: value: 2
}

func ExampleProcess_Wait() {
	m, err := shm.Map(shm.Private, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	child, err := m.Fork(pause, nil)
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if errors.Is(child.Wait(ctx), context.DeadlineExceeded) { // it runs on
		child.Kill()
	}
	var ended *shm.ExitError
	if errors.As(child.Wait(context.Background()), &ended) {
		fmt.Println(ended.Status.Signal())
	}
	// Output: killed
}

func ExampleMapping_Resize() {
	m, err := shm.Map(shm.Private, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	copy(m.Bytes(), "moved, never copied")

	if err := m.Resize(1<<20, shm.MayMove); err != nil {
		log.Fatal(err)
	}
	b := m.Bytes() // what Bytes returned before is invalid now
	fmt.Printf("%s, %d bytes\n", b[:19], len(b))
	// Output: moved, never copied, 1048576 bytes
}

func ExampleMapping_MoveTo() {
	m, err := shm.Map(shm.Private, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	place, err := shm.Map(shm.Private, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	copy(m.Bytes(), "here")
	there := place.Addr()

	if err := m.MoveTo(place); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %t\n", m.Bytes()[:4], m.Addr() == there)
	fmt.Println(errors.Is(place.Close(), shm.ErrClosed))
	// Output:
	// here true
	// true
}

func ExampleBuffer() {
	var b shm.Buffer // ready to use
	defer b.Close()

	if _, err := b.ReadFrom(strings.NewReader("read from anywhere, ")); err != nil {
		log.Fatal(err)
	}
	for b.Len() < 100<<20 { // no byte is copied again, nothing is left to collect
		if _, err := fmt.Fprint(&b, "grown by moving pages, "); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Printf("%s\n", b.Bytes()[:42]) // valid until the next write
	// Output: read from anywhere, grown by moving pages,
}

func ExampleFaultError() {
	page := os.Getpagesize()
	m, err := shm.Map(shm.Private, 2*page, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	if err := unix.Mprotect(m.Bytes()[page:], unix.PROT_NONE); err != nil { // by whom ever
		log.Fatal(err)
	}

	n, err := m.WriteAt(make([]byte, page+100), 0) // into Bytes it would be the end of the program
	var fault *shm.FaultError
	if errors.As(err, &fault) {
		fmt.Println(n == page, fault.Addr >= uintptr(m.Addr())+uintptr(page))
	}
	// Output: true true
}

func ExampleSlice() {
	m, err := shm.Map(shm.Shared, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	samples, err := shm.Slice[float64](m, 64, 4) // behind a header of 64 bytes, say
	if err != nil {
		log.Fatal(err)
	}
	samples[3] = 0.5
	fmt.Println(samples)

	_, err = shm.Slice[float64](m, 4090, 1)
	fmt.Println(err)
	// Output:
	// [0 0 0 0.5]
	// shm: access 8 bytes: offset 4090: out of range of a mapping of 4096 bytes
}
