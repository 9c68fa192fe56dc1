//go:build linux && cgo

// Command forkwait is a small Go program that forks a child that exits, and
// waits for it, N times, and prints the nanoseconds that one took. A third
// argument gives it so many MiB of Go heap. Benchmarks run it, since what fork
// costs depends on the process that forks.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"runtime"
	"strconv"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

func main() {
	n, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 3 {
		mib, err := strconv.Atoi(os.Args[3])
		if err != nil {
			log.Fatal(err)
		}
		heap := make([]byte, mib<<20)
		for i := 0; i < len(heap); i += 4096 {
			heap[i] = 1
		}
		defer runtime.KeepAlive(heap)
	}
	start := time.Now()
	switch os.Args[1] {
	case "mapping": // Mapping.Fork and Process.Wait
		err = mapping(n, nil)
	case "locked": // the same, on one thread
		runtime.LockOSThread()
		err = mapping(n, nil)
	case "lean": // the same, without the Go heap
		err = mapping(n, &shm.ForkConfig{Lean: true})
	case "keeper": // the same, by the thread that lives as long as the process
		err = mapping(n, &shm.ForkConfig{KillWithParent: true})
	case "raw": // Fork and Waitpid
		err = raw(n)
	case "c": // the same in C, behind one cgo call
		err = ctest.ForkLoop(n)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(float64(time.Since(start)) / float64(n))
}

func mapping(n int, cfg *shm.ForkConfig) error {
	m, err := shm.Map(shm.Shared, 4096, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	for range n {
		p, err := m.Fork(ctest.Status, cfg)
		if err != nil {
			return err
		}
		if err := p.Wait(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

func raw(n int) error {
	for range n {
		pid, err := shm.Fork(ctest.Exit, nil, 0)
		if err != nil {
			return err
		}
		if _, status, err := shm.Waitpid(pid, 0); err != nil || status != 0 {
			return fmt.Errorf("status %d, error %w", status, err)
		}
	}
	return nil
}
