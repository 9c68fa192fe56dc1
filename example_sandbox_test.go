//go:build linux && cgo

package shm_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// Also from a program's own cgo file: it opens a file.
var opens = ctest.Escape

// A child in a sandbox computes. The error of a child that tried to do more
// names the system call.
func ExampleSandbox() {
	m, err := shm.Map(shm.Shared, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	ctx := context.Background()
	cfg := &shm.ForkConfig{Lean: true, Sandbox: new(shm.Sandbox)}

	fmt.Println(shm.Call(ctx, add, m, cfg))
	var ended *shm.ExitError
	if errors.As(shm.Call(ctx, opens, m, cfg), &ended) && ended.Denied != nil {
		fmt.Println("the child tried", ended.Denied.Name)
	}
	// Output:
	// <nil>
	// the child tried openat
}
