//go:build linux && cgo

// Package goheap finds the memory of the Go heap.
//
// The runtime has no function that returns the addresses of the heap. These
// facts are enough to find the heap. They hold for Go 1.24 to 1.27:
//
//   - The runtime reserves whole arenas. An arena has a fixed size, and is aligned
//     to that size. An arena belongs to the heap until the program ends.
//   - Some types must not lie in the heap. reflect refuses a pointer to such a type
//     if the address lies in a page that was ever allocated from the heap. So the
//     package can test any address without touching the memory there.
//   - An object that escapes to a package's variable lies in an arena.
//   - The runtime allocates an arena from its first page on. The first arena of all
//     is different in Go 1.26 and later: the runtime skips a random number of
//     chunks, which have no access, and a random number of pages in the next chunk.
package goheap

import (
	"math/bits"
	"reflect"
	"runtime/cgo"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/procmaps"
)

const (
	// arenaSize is runtime.heapArenaBytes: 64 MiB, or 4 MiB on 32-bit machines.
	arenaSize = 4 << 20 << (4 * (bits.UintSize / 64))

	chunkSize = 4 << 20 // runtime.pallocChunkBytes
	pageSize  = 8 << 10 // the size of the runtime's pages, not of the kernel's
)

// These constants bound the work for a VMA that does not belong to the heap.
// 4096 arenas are 256 GiB.
const (
	// After maxMisses arenas in a row outside the heap, the search goes on at the
	// end of the VMA.
	maxMisses = 4096

	// In the first maxDeep arenas of such a row, all pages of the first chunk are
	// tested.
	maxDeep = 8
)

// Range is the memory from Start up to, but not including, End.
type Range struct{ Start, End uintptr }

// heap has what is known of the heap. The lock guards all fields.
var heap struct {
	sync.Mutex
	arenas  map[uintptr]bool // the addresses of the known arenas
	ranges  []Range          // the known arenas in ascending order; adjacent arenas are one range
	mapped  uint64           // the size of the heap at the last search, in bytes
	samples []metrics.Sample
	probe   *prober
}

func init() { hook.Locks = append(hook.Locks, &heap.Mutex) }

// Ranges returns the memory of the Go heap in ascending order: all arenas that
// the heap has allocated from. All of this memory belongs to the heap, whatever
// is mapped beside it. Ranges always returns at least one arena. Memory by
// which the heap grows during the call may be missing. The caller must not
// change the slice.
func Ranges() []Range {
	heap.Lock()
	defer heap.Unlock()
	if heap.arenas == nil {
		heap.arenas = map[uintptr]bool{}
		heap.probe = newProber()
		for _, class := range []string{"free", "objects", "released", "stacks", "unused"} {
			heap.samples = append(heap.samples,
				metrics.Sample{Name: "/memory/classes/heap/" + class + ":bytes"})
		}
	}
	if mapped := mappedBytes(); mapped != heap.mapped {
		findArenas()
		heap.ranges = joinArenas() // a new slice, as callers still have the old one
		heap.mapped = mapped
	}
	return heap.ranges
}

// mappedBytes returns the size of the heap in bytes, free memory included.
func mappedBytes() (total uint64) {
	metrics.Read(heap.samples)
	for _, s := range heap.samples {
		total += s.Value.Uint64()
	}
	return total
}

// findArenas adds the arenas of the heap to the known ones.
func findArenas() {
	object := uintptr(unsafe.Pointer(heap.probe)) &^ (arenaSize - 1)
	heap.arenas[object] = true
	for v, err := range procmaps.All(0) {
		if err != nil { // there is no /proc
			findNeighbours(object)
			return
		}
		if mayBeHeap(&v) {
			findIn(v.Start, v.End)
		}
	}
}

// mayBeHeap reports whether a VMA has the permissions and the name of heap
// memory.
func mayBeHeap(v *procmaps.VMA) bool {
	const readWrite = procmaps.Readable | procmaps.Writable
	// Some kernels and Go versions give the heap a name: "[anon: Go: heap]".
	return v.Perm == readWrite && v.Inode == 0 && (v.Name == "" ||
		strings.HasPrefix(v.Name, "[anon:"))
}

// findIn looks for arenas in the memory from start up to end. Only a part of
// this memory may belong to the heap.
func findIn(start, end uintptr) {
	misses := 0
	for arena := start &^ (arenaSize - 1); ; arena += arenaSize {
		low, high := max(arena, start), end
		if end-arena > arenaSize {
			high = arena + arenaSize
		}
		switch {
		case heap.arenas[arena] || isArena(low, high, misses < maxDeep):
			heap.arenas[arena] = true
			misses = 0
		default:
			misses++
		}
		if left := (end - arena) / arenaSize; misses == maxMisses && left > maxMisses {
			arena += (left - maxMisses) * arenaSize
		}
		if end-arena <= arenaSize {
			return
		}
	}
}

// isArena reports whether the memory from low up to high, which lies in one
// arena, has a page of the heap. The heap usually has the first or the last
// page. If deep is set, isArena also tests all other pages of the first chunk.
func isArena(low, high uintptr, deep bool) bool {
	if heap.probe.inHeap(low) || heap.probe.inHeap(high-1) {
		return true
	}
	if deep {
		for page := low; page-low < min(chunkSize, high-low); page += pageSize {
			if heap.probe.inHeap(page) {
				return true
			}
		}
	}
	return false
}

// findNeighbours looks for arenas on both sides of a known one.
func findNeighbours(known uintptr) {
	for arena := known - arenaSize; isArena(arena, arena+arenaSize, true); arena -= arenaSize {
		heap.arenas[arena] = true
	}
	for arena := known + arenaSize; isArena(arena, arena+arenaSize, true); arena += arenaSize {
		heap.arenas[arena] = true
	}
}

// joinArenas returns the known arenas as ranges, in ascending order.
func joinArenas() (ranges []Range) {
	var arenas []uintptr
	for arena := range heap.arenas {
		arenas = append(arenas, arena)
	}
	slices.Sort(arenas)
	for _, arena := range arenas {
		if last := len(ranges) - 1; last >= 0 && ranges[last].End == arena {
			ranges[last].End += arenaSize
		} else {
			ranges = append(ranges, Range{arena, arena + arenaSize})
		}
	}
	return ranges
}

// notInHeap is a type whose pointers must not point into the Go heap.
type notInHeap struct{ _ cgo.Incomplete }

// prober tests addresses. A prober must be allocated from the heap, since its
// own address gives the first arena.
type prober struct {
	pointer *notInHeap
	value   reflect.Value // the variable pointer
	probes  int
}

func newProber() *prober {
	p := new(prober)
	p.value = reflect.ValueOf(&p.pointer).Elem()
	return p
}

// inHeap reports whether an address lies in a page that was ever allocated from
// the heap.
func (p *prober) inHeap(addr uintptr) (yes bool) {
	p.probes++
	defer func() { yes = recover() != nil }()
	*(*uintptr)(unsafe.Pointer(&p.pointer)) = addr
	p.value.Pointer()
	return false
}
