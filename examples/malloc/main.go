//go:build linux && cgo

// Command malloc shows how glibc's malloc(3) itself uses anonymous mappings and
// mremap(2), as facts on this machine: a block above M_MMAP_THRESHOLD is a
// mapping of its own, mallopt(3) moves the threshold, realloc(3) of such a
// block goes by mremap, and free(3) unmaps it.
//
// The counts are mallinfo2(3)'s: hblks, the blocks that are mapped, and hblkhd,
// their bytes. Run it under strace(1), with -e trace=mmap,mremap,munmap, to see
// the calls.
package main

/*
#cgo CFLAGS: -D_GNU_SOURCE
#include <malloc.h>
#include <stdlib.h>

#ifdef __GLIBC__
static int is_glibc(void) { return 1; }
static size_t mapped_blocks(void) { return mallinfo2().hblks; }
static size_t mapped_bytes(void) { return mallinfo2().hblkhd; }
static int set_threshold(int bytes) { return mallopt(M_MMAP_THRESHOLD, bytes); }
#else
static int is_glibc(void) { return 0; }
static size_t mapped_blocks(void) { return 0; }
static size_t mapped_bytes(void) { return 0; }
static int set_threshold(int bytes) { return bytes < 0; }
#endif
*/
import "C"

import (
	"fmt"
	"log"
	"runtime"
	"unsafe"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

func main() {
	if C.is_glibc() == 0 {
		log.Fatal("this example tells of glibc's malloc, and this C library is another")
	}
	runtime.LockOSThread() // each thread may have a heap of its own

	fmt.Println("the threshold is 128 KiB at first")
	small := malloc(64 * kib)
	large := malloc(mib)
	large = realloc(large, 64*mib)
	free(large)
	free(small)

	threshold(4 * mib)
	first := malloc(mib)
	threshold(512 * kib)
	second := malloc(mib)
	free(second)
	free(first)
}

func malloc(size int) (p unsafe.Pointer) {
	report(fmt.Sprintf("malloc(%d)", size), func() { p = C.malloc(C.size_t(size)) })
	if p == nil {
		log.Fatal("malloc: out of memory")
	}
	touch(p, size)
	return p
}

func realloc(p unsafe.Pointer, size int) (q unsafe.Pointer) {
	report(fmt.Sprintf("realloc(%d)", size), func() { q = C.realloc(p, C.size_t(size)) })
	if q == nil {
		log.Fatal("realloc: out of memory")
	}
	if *(*byte)(q) != 1 {
		log.Fatal("realloc: lost the data")
	}
	touch(q, size)
	return q
}

func free(p unsafe.Pointer) { report("free", func() { C.free(p) }) }

func threshold(bytes int) {
	if C.set_threshold(C.int(bytes)) != 1 {
		log.Fatal("mallopt: refused")
	}
	fmt.Printf("mallopt(M_MMAP_THRESHOLD, %d)\n", bytes)
}

func touch(p unsafe.Pointer, size int) {
	b := unsafe.Slice((*byte)(p), size)
	b[0], b[size-1] = 1, 1
}

// report says what a call did to malloc's mapped blocks.
func report(what string, call func()) {
	blocks, bytes := int(C.mapped_blocks()), int(C.mapped_bytes())
	call()
	blocks, bytes = int(C.mapped_blocks())-blocks, int(C.mapped_bytes())-bytes
	fmt.Printf("%s: mapped blocks %+d, bytes in them %+d\n", what, blocks, bytes)
}
