//go:build cgo

package shared

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"
	"weak"

	"forkshm.example/shm/internal/hook"
)

// An arena grows with a Memfd mapping, within the mapping's reserve, as the children have only that
// mapped. The program alone makes it grow, and no child of a live fork: the length of the mapping is in
// the program's own memory. A child of C says how many units it wants, in the arena's words, and rings.

// program is the token of the process that is not a copy of another.
var program = hook.ProcessToken()

// grow makes the arena have so many units at least.
func (a *arena) grow(units uint64) error {
	if hook.ProcessToken() != program || units > uint64(a.max) {
		return ErrFull
	}
	wish := min(units+max(units/4, 256), uint64(a.max))
	least := a.lock.off + int(units)*arenaUnit
	length, capacity, err := hook.Grow(a.lock.m, least, a.lock.off+int(wish)*arenaUnit)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case length < least:
		return ErrFull
	}
	a.inPlace(func() { a.extend(length, capacity) })
	return nil
}

// inPlace calls f if the mapping is still there, and wakes who waits for more units.
func (a *arena) inPlace(f func()) {
	hook.View(a.lock.m, func(addr unsafe.Pointer, _ int) {
		if unsafe.Add(addr, a.lock.off) == unsafe.Pointer(a.words) {
			f()
			a.gate.wake()
		}
	})
}

// growing has the arenas that grow if a child wants that.
var growing struct {
	sync.Mutex
	arenas map[weak.Pointer[arena]]struct{}
}

func init() { hook.Locks = append(hook.Locks, &growing.Mutex) }

// growForChildren has the arena grow if a child wants that, as long as the Arena is reachable.
func (a *arena) growForChildren() {
	if hook.ProcessToken() != program || atomic.LoadUint32(&a.words.limit) <= a.unitsHere() {
		return
	}
	growing.Lock()
	defer growing.Unlock()
	if growing.arenas == nil {
		growing.arenas = map[weak.Pointer[arena]]struct{}{}
		go growAsWanted()
	}
	growing.arenas[weak.Make(a)] = struct{}{}
}

// growAsWanted makes arenas grow whenever children want that.
func growAsWanted() {
	for {
		seen := atomic.LoadUint32(&family.wants)
		for _, a := range reachableArenas() {
			a.growAsWanted()
		}
		_ = bellWait(context.Background(), &family.wants, seen)
	}
}

// reachableArenas returns the arenas that are reachable, and forgets the others.
func reachableArenas() (all []*arena) {
	growing.Lock()
	defer growing.Unlock()
	for p := range growing.arenas {
		if a := p.Value(); a != nil {
			all = append(all, a)
		} else {
			delete(growing.arenas, p)
		}
	}
	return all
}

// growAsWanted makes the arena grow if a child wants that. A child that cuts the object short does not end
// the program here.
func (a *arena) growAsWanted() {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer ignoreFault()
	wanted := uint32(0)
	a.inPlace(func() { wanted = atomic.LoadUint32(&a.words.wanted) })
	if wanted == 0 {
		return
	}
	_ = a.grow(uint64(wanted)) // who waits sees whether the units are there
	a.inPlace(func() { atomic.CompareAndSwapUint32(&a.words.wanted, wanted, 0) })
}
