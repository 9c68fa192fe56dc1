//go:build cgo

package shm

import (
	"forkshm.example/shm/internal/goheap"
	"forkshm.example/shm/internal/hook"
)

func init() {
	hook.GoHeap = func() (ranges [][2]uintptr) {
		for _, r := range goheap.Ranges() {
			ranges = append(ranges, [2]uintptr{r.Start, r.End})
		}
		return ranges
	}
}

// goHeap returns the address ranges of the Go heap. Parts that the heap grows
// by meanwhile may be missing.
func goHeap() (ranges []memoryRange) {
	for _, r := range goheap.Ranges() {
		ranges = append(ranges, memoryRange{r.Start, r.End - r.Start})
	}
	return ranges
}
