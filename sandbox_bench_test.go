//go:build linux && cgo

package shm_test

import (
	"errors"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// BenchmarkSandbox forks a child and reaps it, with and without a sandbox; and
// takes the end of a child by a denied call, against that by a crash.
func BenchmarkSandbox(b *testing.B) {
	needFilter(b)
	m := newMapping(b, shm.Shared, 4096, nil)
	for _, by := range []struct {
		name string
		cfg  *shm.ForkConfig
	}{
		{"end=exit/impl=fork", nil},
		{"end=exit/impl=closefds", &shm.ForkConfig{CloseFDs: true}},
		{"end=exit/impl=sandbox", inSandbox(shm.Sandbox{})},
		{"end=exit/impl=custom", inSandbox(shm.Sandbox{Policy: shm.Custom, Optional: true})},
	} {
		b.Run(by.name, func(b *testing.B) {
			for b.Loop() {
				if err := shm.Call(background, ctest.Status, m, by.cfg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("end=error/impl=crash", func(b *testing.B) {
		crash := newMapping(b, shm.Shared, 1, nil) // child_crash: 1 reads address 16
		fails(b, ctest.Crash, crash)
	})
	b.Run("end=error/impl=denied", func(b *testing.B) { fails(b, ctest.Escape, m) })
}

// fails forks children in a sandbox that end by an error.
func fails(b *testing.B, child shm.ChildFunc, m *shm.Mapping) {
	cfg := inSandbox(shm.Sandbox{})
	for b.Loop() {
		err := shm.Call(background, child, m, cfg)
		var exit *shm.ExitError
		if !errors.As(err, &exit) || !exit.Status.Signaled() {
			b.Fatal(err)
		}
	}
}
