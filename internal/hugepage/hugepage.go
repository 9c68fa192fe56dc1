//go:build linux

// Package hugepage asks the kernel for the size of its huge pages. The size
// depends on the architecture and on the size of the usual pages.
package hugepage

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// The sizes are stored when they are known. There is no lock, since a forked
// copy of this process could find a lock held forever.
var transparent, explicit atomic.Int64

// Transparent returns the size of a transparent huge page in bytes, a power of
// two. One entry of the second level of page tables maps as much. So the kernel
// moves memory by whole page tables if the distance is a multiple of this size.
func Transparent() int { return known(&transparent, askTransparent) }

// Explicit returns the default size of the pages of MAP_HUGETLB in bytes, a
// power of two.
func Explicit() int { return known(&explicit, askExplicit) }

func known(size *atomic.Int64, ask func() int) int {
	if size.Load() == 0 {
		size.Store(int64(ask()))
	}
	return int(size.Load())
}

func askTransparent() int {
	text, _ := os.ReadFile("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
	if size := powerOfTwo(string(text)); size > 0 {
		return size
	}
	// A page table is one page, with entries of 8 bytes.
	return os.Getpagesize() * (os.Getpagesize() / 8)
}

func askExplicit() int {
	meminfo, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut("\n"+string(meminfo), "\nHugepagesize:")
	kib, _, _ := strings.Cut(rest, "kB")
	if size := powerOfTwo(kib); size > 0 {
		return size << 10
	}
	return Transparent()
}

// powerOfTwo returns the number in text, or 0 if text has no power of two below
// 2^30.
func powerOfTwo(text string) int {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 30)
	if err != nil || n&(n-1) != 0 {
		return 0
	}
	return int(n)
}
