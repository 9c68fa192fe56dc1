package testenv

import (
	"os"
	"runtime"
	"sync"
	"syscall"
)

// SpareThreads has the runtime start threads now, so that it needs none when it
// can have none. A thread that has nothing to do stays.
func SpareThreads() {
	const n = 16
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		panic(err)
	}
	var all sync.WaitGroup
	for range n {
		all.Add(1)
		go func() {
			defer all.Done()
			_, _ = syscall.Read(pipe[0], make([]byte, 1)) // which holds a thread
		}()
	}
	if !Eventually(func() bool {
		threads, err := os.ReadDir("/proc/self/task")
		return err == nil && len(threads) > n
	}) {
		panic("the runtime starts no threads")
	}
	_ = syscall.Close(pipe[1])
	all.Wait()
	_ = syscall.Close(pipe[0])
}

// SpareMemory has the Go heap take more address space now than a test needs. So it needs none when
// it can have none.
func SpareMemory() {
	spare := make([]byte, 32<<20)
	runtime.KeepAlive(spare)
	runtime.GC()
}
