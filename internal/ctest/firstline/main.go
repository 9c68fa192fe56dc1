//go:build linux && cgo

// Command firstline forks a child that exits, and waits for it, N times: by itself (fork), by a
// fork server (server), or by a fork server into a sandbox (sandbox). The program has so many MiB
// of memory. It prints the nanoseconds from the fork to the child's first line, those until the
// child is reaped, both as the median, and this process's page faults per child. Benchmarks run
// it, since what fork costs depends on the process that forks.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

func main() {
	n, mib := number(os.Args[2]), number(os.Args[3])
	m, err := shm.Map(shm.Shared, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	fork := func() (*shm.Process, error) { return m.Fork(ctest.Clock, nil) }
	if by := os.Args[1]; by != "fork" {
		var cfg shm.ForkServerConfig
		if by == "sandbox" {
			cfg.Fork.Sandbox = &shm.Sandbox{}
		}
		s, err := m.ForkServer(&cfg)
		if err != nil {
			log.Fatal(err)
		}
		defer s.Close()
		fork = func() (*shm.Process, error) { return s.Fork(ctest.Clock) }
	}
	heap := make([]byte, mib<<20)
	for i := 0; i < len(heap); i += 4096 {
		heap[i] = 1
	}
	if err := measure(m, n, fork); err != nil {
		log.Fatal(err)
	}
	runtime.KeepAlive(heap)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func measure(m *shm.Mapping, n int, fork func() (*shm.Process, error)) error {
	clock, err := shm.At[int64](m, 0)
	if err != nil {
		return err
	}
	first, reaped := make([]int64, n), make([]int64, n)
	clear(first)
	clear(reaped)
	before := faults()
	for i := range n {
		begin := ctest.Now()
		p, err := fork()
		if err != nil {
			return err
		}
		if err := p.Wait(context.Background()); err != nil {
			return err
		}
		first[i], reaped[i] = *clock-begin, ctest.Now()-begin
	}
	after := faults()
	slices.Sort(first)
	slices.Sort(reaped)
	fmt.Println(first[n/2], reaped[n/2], float64(after-before)/float64(n))
	return nil
}

func faults() int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return usage.Minflt
}
