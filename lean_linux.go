//go:build cgo

package shm

import (
	"errors"
	"math/bits"
	"reflect"
	"runtime/cgo"
	"runtime/metrics"
	"strings"
	"sync"
	"unsafe"

	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/procmaps"
)

// Where is the Go heap? The runtime does not tell, but it maps its heap in arenas of one size,
// aligned to that, which stay the heap's for ever; and reflect refuses a pointer into any of them
// where its type says that it points outside the heap.

const arenaSize = 4 << 20 << (4 * (bits.UintSize / 64)) // runtime.heapArenaBytes: 64 MiB, or 4 MiB with 32 bits

var arenas struct {
	sync.Mutex
	known   map[uintptr]bool
	ranges  []memoryRange // the known ones, adjacent ones as one
	samples []metrics.Sample
	heap    uint64 // bytes of heap when they were looked for
}

func init() {
	hook.Locks = append(hook.Locks, &arenas.Mutex)
	hook.GoHeap = func() (heap [][2]uintptr, err error) {
		ranges, err := goHeap()
		for _, r := range ranges {
			heap = append(heap, [2]uintptr{r.addr, r.addr + r.length})
		}
		return heap, err
	}
}

// goHeap returns where the Go heap is. What it grew by in the meantime may be missing.
func goHeap() ([]memoryRange, error) {
	arenas.Lock()
	defer arenas.Unlock()
	if arenas.samples == nil {
		for _, class := range []string{"free", "objects", "released", "stacks", "unused"} {
			arenas.samples = append(arenas.samples, metrics.Sample{Name: "/memory/classes/heap/" + class + ":bytes"})
		}
		arenas.known = map[uintptr]bool{}
	}
	metrics.Read(arenas.samples)
	var heap uint64
	for _, s := range arenas.samples {
		heap += s.Value.Uint64()
	}
	if heap == arenas.heap {
		return arenas.ranges, nil
	}
	if err := findArenas(); err != nil {
		return nil, err
	}
	arenas.heap = heap
	return arenas.ranges, nil
}

// findArenas looks for arenas in the anonymous mappings of this process.
func findArenas() error {
	var ranges []memoryRange
	seen := uintptr(0) // arenas below it have been looked at
	for v, err := range procmaps.All(0) {
		if err != nil {
			return err
		}
		start, end := v.Start, v.End
		// Newer kernels and runtimes give the heap a name.
		if v.Inode != 0 || v.Perm&procmaps.Shared != 0 || v.Name != "" && !strings.HasPrefix(v.Name, "[anon:") {
			continue
		}
		for arena := max(start&^(arenaSize-1), seen); arena < end; arena += arenaSize {
			if !arenas.known[arena] && !isArena(max(arena, start), min(arena+arenaSize, end)) {
				continue
			}
			arenas.known[arena] = true
			seen = arena + arenaSize
			if last := len(ranges) - 1; last >= 0 && ranges[last].addr+ranges[last].length == arena {
				ranges[last].length += arenaSize
			} else {
				ranges = append(ranges, memoryRange{arena, arenaSize})
			}
		}
	}
	if len(ranges) == 0 {
		return errors.ErrUnsupported
	}
	arenas.ranges = ranges // a new slice, as the old one may be in use
	return nil
}

// isArena says whether any of the memory there is, or was, the Go heap's.
func isArena(start, end uintptr) bool {
	for addr := start; addr < end; addr += 1 << 20 {
		if inGoHeap(addr) {
			return true
		}
	}
	return false
}

// notInHeap is a type whose pointers must not point into the Go heap.
type notInHeap struct{ _ cgo.Incomplete }

func inGoHeap(addr uintptr) (yes bool) {
	defer func() { yes = recover() != nil }()
	var p *notInHeap
	*(*uintptr)(unsafe.Pointer(&p)) = addr
	reflect.ValueOf(p).Pointer()
	return false
}
