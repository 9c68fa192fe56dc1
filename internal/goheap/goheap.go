//go:build linux && cgo

// Package goheap finds the memory of the Go heap.
//
// The runtime does not tell where its heap is. These facts, which hold for Go
// 1.24 to 1.27, are enough to find it:
//
//   - The runtime reserves whole arenas. An arena has a fixed size and is
//     aligned to that size. An arena stays the heap's until the program ends.
//   - reflect refuses a pointer to a type outside the heap if the address lies
//     in a page that was ever allocated from the heap. So any address can be
//     tested, without touching the memory there.
//   - An object that escapes to a package's variable lies in an arena.
//   - An arena is used from its first page on. Of the very first arena, Go 1.26
//     and later skip a random number of chunks, which stay without access, and
//     then a random number of pages in the next chunk.
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
	arenaSize = 4 << 20 << (4 * (bits.UintSize / 64)) // runtime.heapArenaBytes: 64 MiB, or 4 MiB with 32 bits
	chunkSize = 4 << 20                               // runtime.pallocChunkBytes
	pageSize  = 8 << 10                               // the runtime's, not the kernel's
)

// The bounds of the work for a VMA that is not the heap's. 4096 arenas are 256 GiB.
const (
	maxMisses = 4096 // after so many arenas in a row that are not the heap's, its end is looked at
	maxDeep   = 8    // in so many of those, all pages of the first chunk are tested
)

// Range is memory from Start up to End.
type Range struct{ Start, End uintptr }

// heap is what is known of the heap. All of it is guarded by the lock.
var heap struct {
	sync.Mutex
	arenas  map[uintptr]bool // the addresses of the known ones
	ranges  []Range          // the known arenas in ascending order, adjacent ones as one
	mapped  uint64           // the size of the heap when it was looked for, in bytes
	samples []metrics.Sample
	probe   *prober
}

func init() { hook.Locks = append(hook.Locks, &heap.Mutex) }

// Ranges returns the memory of the Go heap, in ascending order: all arenas that
// it has allocated from. All of that memory is the heap's alone, whatever is
// mapped beside it. At least one arena is always found. What the heap grows by
// during the call may be missing. The caller must not change the slice.
func Ranges() []Range {
	heap.Lock()
	defer heap.Unlock()
	if heap.arenas == nil {
		heap.arenas = map[uintptr]bool{}
		heap.probe = newProber()
		for _, class := range []string{"free", "objects", "released", "stacks", "unused"} {
			heap.samples = append(heap.samples, metrics.Sample{Name: "/memory/classes/heap/" + class + ":bytes"})
		}
	}
	if mapped := mappedBytes(); mapped != heap.mapped {
		findArenas()
		heap.ranges = joinArenas() // a new slice, as callers have the old one
		heap.mapped = mapped
	}
	return heap.ranges
}

// mappedBytes returns how large the heap is, whether its memory is in use or not.
func mappedBytes() (total uint64) {
	metrics.Read(heap.samples)
	for _, s := range heap.samples {
		total += s.Value.Uint64()
	}
	return total
}

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

func mayBeHeap(v *procmaps.VMA) bool {
	const readWrite = procmaps.Readable | procmaps.Writable
	// Some kernels and Go versions give the heap a name: "[anon: Go: heap]".
	return v.Perm == readWrite && v.Inode == 0 && (v.Name == "" || strings.HasPrefix(v.Name, "[anon:"))
}

// findIn looks for arenas in the memory from start up to end, which may be the heap's only in part.
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

// isArena says whether the memory from low up to high, in one arena, has a page of the heap. Memory of the heap is
// allocated from its first page to its last. Where that begins in an unusual place, deep finds it.
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

// prober tests addresses. It must be allocated from the heap.
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

// inHeap says whether an address lies in a page that is the heap's, or was.
func (p *prober) inHeap(addr uintptr) (yes bool) {
	p.probes++
	defer func() { yes = recover() != nil }()
	*(*uintptr)(unsafe.Pointer(&p.pointer)) = addr
	p.value.Pointer()
	return false
}
