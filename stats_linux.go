package shm

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/procmaps"
)

// Stats returns what the mapping takes of the machine now. Stats reads
// /proc/self/smaps, for which the kernel walks all memory of this process. A
// program should not call Stats in a loop.
func (m *Mapping) Stats() (Stats, error) {
	const op = "stat"
	m.mu.Lock() // Resize must not find the VMAs that the advice below makes
	defer m.mu.Unlock()
	if m.mem == nil {
		return Stats{}, &Error{op, 0, ErrClosed}
	}
	statsLock.Lock()
	defer statsLock.Unlock()
	from := uintptr(m.mem.addr)
	size := uintptr(pages(m.mem.length)) * uintptr(os.Getpagesize())
	if m.mem.huge == HugeExplicit {
		size = uintptr(m.mem.reservation.capacity)
	}
	stats, joined, err := readStats(from, from+size)
	if err == nil && len(joined) > 0 {
		stats, err = m.mem.statsApart(from, from+size, joined)
	}
	if err != nil {
		return Stats{}, &Error{op, m.mem.length, err}
	}
	stats.Mapped = clampInt(uint64(size))
	return stats, nil
}

// statsApart is readStats for a mapping of which parts are joined with
// neighbours: the kernel makes one VMA of adjacent memory with the same
// properties. For a moment, statsApart gives those parts another property than
// their neighbours.
func (mem *memory) statsApart(low, high uintptr, joined []vmaPart) (stats Stats, err error) {
	for _, j := range joined {
		if err := mem.advise(int(j.low-low), int(j.high-j.low), j.unlike()); err != nil {
			return Stats{}, err
		}
		defer mem.advise(int(j.low-low), int(j.high-j.low), j.like())
	}
	stats, joined, err = readStats(low, high)
	if err == nil && len(joined) > 0 {
		err = fmt.Errorf("memory beside the mapping changed meanwhile (try again): %w", unix.EAGAIN)
	}
	return stats, err
}

// statsLock is held by the goroutine that gives a mapping another property than
// its neighbours. Two mappings that lie side by side must not get the same one
// at the same time.
var statsLock sync.Mutex

func init() { hook.Locks = append(hook.Locks, &statsLock) }

// A vmaPart is the part of a VMA that lies in a mapping.
type vmaPart struct {
	low, high uintptr
	undumped  bool // whether the VMA has MADV_DONTDUMP
}

// like returns the advice that the VMA has.
func (p vmaPart) like() int {
	if p.undumped {
		return unix.MADV_DONTDUMP
	}
	return unix.MADV_DODUMP
}

// unlike returns the opposite of the advice that the VMA has.
func (p vmaPart) unlike() int {
	p.undumped = !p.undumped
	return p.like()
}

// readStats adds up what smaps says of the VMAs from low to high. Of a VMA that
// also has memory outside, the part from low to high is in joined.
func readStats(low, high uintptr) (stats Stats, joined []vmaPart, err error) {
	var total procmaps.Usage
	for s, err := range procmaps.Smaps(0) {
		if err != nil {
			return Stats{}, nil, err
		}
		if s.Start >= high || s.End <= low {
			continue
		}
		total.Add(&s.Usage)
		if s.Start < low || s.End > high {
			joined = append(joined, vmaPart{max(s.Start, low), min(s.End, high), s.HasFlag("dd")})
		}
	}
	hugetlb := total.PrivateHugetlb + total.SharedHugetlb // Rss leaves these out
	huge := total.AnonHugePages + total.ShmemPmdMapped + total.FilePmdMapped + hugetlb
	return Stats{
		Resident:     clampInt(total.Rss + hugetlb),
		Proportional: clampInt(total.Pss),
		PrivateDirty: clampInt(total.PrivateDirty),
		Huge:         clampInt(huge),
		Locked:       clampInt(total.Locked),
		Swapped:      clampInt(total.Swap),
	}, joined, nil
}
