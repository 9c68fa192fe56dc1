//go:build linux

// Package hugepage asks the kernel how large its huge pages are. That depends
// on the architecture and on the size of its usual pages.
package hugepage

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// The sizes are kept once they are known. No lock is held meanwhile, which a
// forked copy of this process would find taken for ever.
var transparent, explicit atomic.Int64

// Transparent returns the size of a transparent huge page in bytes. It is a
// power of two, and what one entry of the second level of page tables maps: so
// memory that moves by a multiple of it moves by whole tables.
func Transparent() int { return known(&transparent, askTransparent) }

// Explicit returns the size of the pages that MAP_HUGETLB gives, in bytes. It is
// a power of two.
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
	return os.Getpagesize() * (os.Getpagesize() / 8) // a table is a page, and an entry has 8 bytes
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

// powerOfTwo returns the number that text has, and 0 if it is no power of two, or too large.
func powerOfTwo(text string) int {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 30)
	if err != nil || n&(n-1) != 0 {
		return 0
	}
	return int(n)
}
