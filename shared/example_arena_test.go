//go:build linux && cgo

package shared_test

import (
	"fmt"
	"log"

	"forkshm.example/shm"
	"forkshm.example/shm/shared"
)

// A list in shared memory. Each element is allocated by the Ref that names it.
func ExampleAlloc() {
	type element struct {
		next  shared.Ref[element]
		value int64
	}
	m, err := shm.Map(shm.Shared, 1<<20, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	list, err := shm.At[shared.Ref[element]](m, 0) // where all processes begin
	if err != nil {
		log.Fatal(err)
	}
	a, err := shared.NewArena(m, shared.Align, nil)
	if err != nil {
		log.Fatal(err)
	}
	at := list
	for i := range 3 {
		e, err := shared.Alloc(a, at)
		if err != nil {
			log.Fatal(err)
		}
		e.value = int64(i * i)
		at = &e.next
	}
	for e := list.In(a); e != nil; e = e.next.In(a) {
		fmt.Println(e.value)
	}
	stats, err := a.Stats()
	fmt.Println(stats.Used, stats.Lost, err)
	fmt.Println(a.Check())
	// Output:
	// 0
	// 1
	// 4
	// 3 0 <nil>
	// <nil>
}

func ExampleFree() {
	m, err := shm.Map(shm.Shared, 1<<20, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	name, err := shm.At[shared.Ref[byte]](m, 0)
	if err != nil {
		log.Fatal(err)
	}
	a, err := shared.NewArena(m, shared.Align, nil)
	if err != nil {
		log.Fatal(err)
	}
	b, err := shared.AllocSlice(a, name, len("gopher"))
	if err != nil {
		log.Fatal(err)
	}
	copy(b, "gopher")
	fmt.Printf("%s\n", name.Slice(a, len(b)))
	fmt.Println(shared.Free(a, name))
	fmt.Println(shared.Free(a, name))
	// Output:
	// gopher
	// <nil>
	// shared: the Ref names no block that is in use
}
