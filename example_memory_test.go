//go:build linux && cgo

package shm_test

import (
	"fmt"
	"log"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

func ExampleMapping_Resize_whileChildrenLive() {
	m, err := shm.Map(shm.Shared, 4096, &shm.Config{Technique: shm.Memfd, Reserve: 1 << 28})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	before := m.Addr()
	// Children that were forked before can use the new bytes, too.
	if err := m.Resize(1<<20, shm.InPlace); err != nil {
		log.Fatal(err)
	}
	n, _ := m.ObjectLen()
	fmt.Println(n, m.Addr() == before)
	// Output: 1048576 true
}

func ExampleMapFile() {
	m, err := shm.Map(shm.Shared, 4096, &shm.Config{Technique: shm.Memfd, Name: "ring"})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	// Another process gets the file by exec.Cmd's ExtraFiles, or over a Unix socket.
	f, err := m.File()
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	// The seal promises that process that no access gets SIGBUS.
	if err := m.Seal(unix.F_SEAL_SHRINK); err != nil {
		log.Fatal(err)
	}

	there, err := shm.MapFile(f)
	if err != nil {
		log.Fatal(err)
	}
	defer there.Close()
	copy(there.Bytes(), "written there")
	fmt.Printf("%s\n", m.Bytes()[:13])
	fmt.Println(m.Resize(100, shm.InPlace))
	// Output:
	// written there
	// shm: resize to 100 bytes: ftruncate: operation not permitted
}

func ExampleConfig_reserve() {
	m, err := shm.Map(shm.Private, 4096, &shm.Config{Reserve: 1 << 28, Guard: true, Populate: true})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	b := m.Bytes()
	copy(b, "stays valid")
	for length := 8192; length <= 1<<20; length *= 2 { // in place, for certain
		if err := m.Resize(length, shm.InPlace); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Printf("%s, %d bytes\n", b[:11], m.Len())
	fmt.Println(m.Resize(3<<27, shm.InPlace))
	// Output:
	// stays valid, 1048576 bytes
	// shm: resize to 402653184 bytes: mremap: cannot allocate memory: 268435456 bytes are reserved (use MayMove, or a larger Config.Reserve)
}

func ExampleMapping_Huge() {
	m, err := shm.Map(shm.Private, 100<<20,
		&shm.Config{Technique: shm.Anonymous, Huge: shm.HugeExplicit})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	switch m.Huge() {
	case shm.HugeExplicit: // 50 of them, set aside for m
	case shm.HugeNone: // the machine had no 50 left: m has the usual pages
	}
	fmt.Println(m.Len())
	// Output: 104857600
}

func ExampleMapping_Stats() {
	m, err := shm.Map(shm.Private, 1<<20, &shm.Config{Technique: shm.Anonymous})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	m.Advise(0, m.Len(), unix.MADV_NOHUGEPAGE)
	clear(m.Bytes()[:64<<10])
	before, _ := m.Stats()
	m.Advise(0, m.Len(), unix.MADV_DONTNEED) // private memory reads zero then, and costs nothing
	after, _ := m.Stats()
	fmt.Println(before.Mapped, before.Resident, after.Resident)
	// Output: 1048576 65536 0
}

func ExampleMapping_WriteTo() {
	m, err := shm.Map(shm.Private, 11, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	if _, err := m.ReadFrom(strings.NewReader("a few bytes")); err != nil { // a file, say
		log.Fatal(err)
	}
	m.Protect(shm.ReadOnly) // who writes to it from now on is stopped
	m.WriteTo(os.Stdout)
	// Output: a few bytes
}

func ExampleMapping_Detach() {
	journal, err := shm.Map(shm.Private, 1<<20, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer journal.Close()
	copy(journal.Bytes(), "first batch")

	// Another goroutine can write full out while journal is written to.
	batch, err := journal.Detach()
	if err != nil {
		log.Fatal(err)
	}
	defer batch.Close()
	copy(journal.Bytes(), "next")
	fmt.Printf("%s, %s\n", batch.Bytes()[:11], journal.Bytes()[:4])
	// Output: first batch, next
}

func ExampleMapping_SwapPages() {
	page := os.Getpagesize()
	newMapping := func(pages int) *shm.Mapping {
		m, err := shm.Map(shm.Private, pages*page, nil)
		if err != nil {
			log.Fatal(err)
		}
		return m
	}
	records, chosen := newMapping(4), newMapping(2)
	defer records.Close()
	defer chosen.Close()
	for i := range 4 {
		fmt.Fprint(writer{records.Bytes()[i*page:]}, "record ", i)
	}
	for i, from := range []int{3, 1} { // gathered, in a new order
		if err := chosen.SwapPages(i*page, records, from*page, page); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Printf("%s, %s\n", chosen.Bytes()[:8], chosen.Bytes()[page:][:8])
	fmt.Printf("%s, %q\n", records.Bytes()[:8], records.Bytes()[page]) // zero, as chosen was
	// Output:
	// record 3, record 1
	// record 0, '\x00'
}

type writer struct{ to []byte }

func (w writer) Write(p []byte) (int, error) { return copy(w.to, p), nil }
