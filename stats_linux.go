package shm

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/procmaps"
)

// Stats returns what the mapping takes now. It reads /proc/self/smaps, which has the kernel look at
// all memory of this process: it is for looking, not for loops.
func (m *Mapping) Stats() (Stats, error) {
	const op = "stat"
	m.mu.Lock() // a Resize of ours must not find it split
	defer m.mu.Unlock()
	if m.mem == nil {
		return Stats{}, &Error{op, 0, ErrClosed}
	}
	statsLock.Lock()
	defer statsLock.Unlock()
	from := uintptr(m.mem.addr)
	span := uintptr(pages(m.mem.length)) * uintptr(os.Getpagesize())
	if m.mem.huge == HugeExplicit {
		span = uintptr(m.mem.reservation.capacity)
	}
	stats, joined, err := readStats(from, from+span)
	if err == nil && len(joined) > 0 {
		// The kernel has joined it with neighbours that are like it. So it is made unlike, for a moment.
		var done []vmaPart
		for _, j := range joined {
			if err = m.mem.advise(int(j.low-from), int(j.high-j.low), j.unlike()); err != nil {
				break
			}
			done = append(done, j)
		}
		if err == nil {
			stats, joined, err = readStats(from, from+span)
		}
		for _, j := range done {
			_ = m.mem.advise(int(j.low-from), int(j.high-j.low), j.like())
		}
		if err == nil && len(joined) > 0 {
			err = fmt.Errorf("its neighbours change: %w", unix.EAGAIN)
		}
	}
	if err != nil {
		return Stats{}, &Error{op, m.mem.length, err}
	}
	stats.Mapped = clampInt(uint64(span))
	return stats, nil
}

// telling is held while a mapping's memory is made to differ from its neighbours'.
var statsLock sync.Mutex

func init() { hook.Locks = append(hook.Locks, &statsLock) }

// A part of a mapping is what smaps tells of together, by itself or with a neighbour.
type vmaPart struct {
	low, high uintptr
	undumped  bool // it has MADV_DONTDUMP
}

func (p vmaPart) like() int {
	if p.undumped {
		return unix.MADV_DONTDUMP
	}
	return unix.MADV_DODUMP
}

func (p vmaPart) unlike() int {
	p.undumped = !p.undumped
	return p.like()
}

// readStats adds up what smaps says of the memory from low to high. Where it says that of other memory
// too, the part of low to high that it is joined to is in joined.
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
	hugetlb := total.PrivateHugetlb + total.SharedHugetlb // which Rss leaves out
	return Stats{
		Resident:     clampInt(total.Rss + hugetlb),
		Proportional: clampInt(total.Pss),
		PrivateDirty: clampInt(total.PrivateDirty),
		Huge:         clampInt(total.AnonHugePages + total.ShmemPmdMapped + total.FilePmdMapped + hugetlb),
		Locked:       clampInt(total.Locked),
		Swapped:      clampInt(total.Swap),
	}, joined, nil
}
