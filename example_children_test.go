//go:build linux && cgo

package shm_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"log"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// As for increment, these come from a program's own cgo file.
var crash, add = ctest.Crash, ctest.Add
var echo, fail = ctest.DoEcho, ctest.DoFail

// A C function runs in a child, so that a crash costs the child alone. The
// mapping has the function's result.
func ExampleCall() {
	m, err := shm.Map(shm.Shared, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	err = shm.Call(ctx, increment, m, &shm.ForkConfig{Lean: true, CloseFDs: true})
	fmt.Println(*must(shm.At[int32](m, 0)), err)
	// Output: 1 <nil>
}

// Where a child crashed is in its ExitError.
func ExampleCrash() {
	m, err := shm.Map(shm.Shared, 1, nil) // 1: crash reads address 16
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	var ended *shm.ExitError
	if errors.As(shm.Call(context.Background(), crash, m, nil), &ended) && ended.Crash != nil {
		fmt.Printf("%v, address %#x\n", ended.Status.Signal(), ended.Crash.Addr)
	}
	// Output: segmentation fault, address 0x10
}

// A pool's children serve one call after another. If a child crashes, the call
// returns an error, and the pool replaces the child.
func ExamplePool() {
	m, err := shm.Map(shm.Shared, 1<<20, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	pool, err := shm.NewPool(m, 2, &shm.PoolConfig{Fork: shm.ForkConfig{Lean: true}})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	ctx := context.Background()
	copy(m.Bytes()[4096:], "ABC")
	sum, err := pool.Call(ctx, add, 4096, 3) // int add(void *addr, size_t length)
	fmt.Println(sum, err)

	_, err = pool.Call(ctx, crash, 0, 1)
	var ended *shm.ExitError
	fmt.Println(errors.As(err, &ended))

	sum, err = pool.Call(ctx, add, 4096, 2)
	fmt.Println(sum, err)
	// Output:
	// 198 <nil>
	// true
	// 131 <nil>
}

// Bytes in, bytes out: the C function is int echo(const void *in, size_t in_length, struct shm_out *out).
func ExamplePool_Do() {
	pool, err := shm.NewPool(nil, 2, nil) // nil: the calls need no mapping
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	ctx := context.Background()
	out, err := pool.Do(ctx, echo, []byte("ABC"))
	fmt.Printf("%s %v\n", out, err)

	_, err = pool.Do(ctx, fail, nil) // it answers "bad input", and returns -3
	var failed *shm.ResultError
	if errors.As(err, &failed) {
		fmt.Printf("%d: %s\n", failed.Result, failed.Out)
	}
	// Output:
	// ABC <nil>
	// -3: bad input
}

func ExampleMapping_ForkServer() {
	m, err := shm.Map(shm.Shared, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	s, err := m.ForkServer(nil) // early, while the program is small
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	ctx := context.Background()
	for range 3 {
		if err := s.Call(ctx, increment); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(m.Bytes()[0])
	// Output: 3
}

func ExampleReadCounters() {
	expvar.Publish("shm", expvar.Func(func() any { return shm.ReadCounters() }))

	var c shm.Counters
	err := json.Unmarshal([]byte(expvar.Get("shm").String()), &c)
	fmt.Println(c.Forks >= c.Exits, err)
	// Output: true <nil>
}

func ExampleForkConfig() {
	m, err := shm.Map(shm.Shared, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	child, err := m.Fork(increment, &shm.ForkConfig{
		KillWithParent: true, // even if this program is killed
		Lean:           true, // without the Go heap
		CloseFDs:       true, // but for 0, 1 and 2
		Nice:           5,
		Limits: []shm.Limit{
			{Resource: unix.RLIMIT_CPU, Rlimit: unix.Rlimit{Cur: 10, Max: 10}}, // seconds
			{Resource: unix.RLIMIT_CORE},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(child.Wait(context.Background()))
	// Output: <nil>
}
