//go:build linux && cgo

package shared_test

import (
	"context"
	"fmt"
	"log"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"
)

// upper is this function of C, in a cgo file of the program:
//
//	int child_upper(void *addr, size_t length)
//	{
//		shm_ring in, out;
//		void *from, *to;
//		size_t n, i;
//
//		if (shm_ring_open(&in, addr, 4096, SHM_RING_CONSUMER) != 0 ||
//		    shm_ring_open(&out, (char *)addr + 4096, 4096, SHM_RING_PRODUCER) != 0)
//			return 1;
//		while (shm_ring_peek(&in, NULL, &from, &n) == 0 && shm_ring_reserve(&out, n, NULL, &to) == 0) {
//			for (i = 0; i < n; i++)
//				((char *)to)[i] = (char)toupper(((unsigned char *)from)[i]);
//			shm_ring_commit(&out);
//			shm_ring_release(&in);
//		}
//		return 0;
//	}
var upper = sharedc.Upper

// A child in C gets records by one ring, and answers by another.
func ExampleRing() {
	ctx := context.Background()
	m, err := shm.Map(shm.Shared, 8192, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	to, err := shared.NewRing(m, 0, 4096)
	if err != nil {
		log.Fatal(err)
	}
	from, err := shared.NewRing(m, 4096, 4096)
	if err != nil {
		log.Fatal(err)
	}
	p, err := m.Fork(upper, nil)
	if err != nil {
		log.Fatal(err)
	}
	from.Watch(p) // so that Peek ends with an error even if the child dies early

	for _, word := range []string{"records", "of any", "length"} {
		buf, err := to.Reserve(ctx, len(word))
		if err != nil {
			log.Fatal(err)
		}
		copy(buf, word)
		if err := to.Commit(); err != nil {
			log.Fatal(err)
		}
		answer, err := from.Peek(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(answer))
		if err := from.Release(); err != nil {
			log.Fatal(err)
		}
	}
	if err := to.CloseWrite(); err != nil {
		log.Fatal(err)
	}
	_, err = from.Peek(ctx)
	fmt.Println(err, p.Wait(ctx))
	if err := from.CloseRead(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// RECORDS
	// OF ANY
	// LENGTH
	// EOF <nil>
}

// The ends of a ring are streams of bytes, too.
func ExampleRing_Reader() {
	ctx := context.Background()
	m, err := shm.Map(shm.Shared, 4096, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	r, err := shared.NewRing(m, 0, 4096)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if _, err := fmt.Fprintln(r.Writer(ctx), "what", 1, "end writes"); err != nil {
			log.Print(err)
		}
		if err := r.CloseWrite(); err != nil {
			log.Print(err)
		}
	}()
	var what, verb, noun string
	var n int
	fmt.Fscan(r.Reader(ctx), &what, &n, &noun, &verb)
	fmt.Println(what, n, noun, verb)
	if err := r.CloseRead(); err != nil {
		log.Fatal(err)
	}
	// Output: what 1 end writes
}
