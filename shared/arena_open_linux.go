//go:build cgo

package shared

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"
)

func (a *arena) open(m *shm.Mapping, off, max int) error {
	extent, capacity, err := hook.Grow(m, 0, 0)
	if err != nil {
		return errors.Unwrap(err)
	}
	units, err := arenaUnits(off, extent, max)
	if err != nil {
		return err
	}
	addr, err := a.room.open(m, off, kindArena, func(addr unsafe.Pointer) {
		w := (*arenaWords)(addr)
		if atomic.CompareAndSwapUint32(&w.max, 0, units) {
			atomic.StoreUint32(&w.next, arenaFirst(units))
		}
	})
	if err != nil {
		return err
	}
	a.words, a.max = (*arenaWords)(addr), atomic.LoadUint32(&(*arenaWords)(addr).max)
	a.recount = func() { a.recountIn(a.view()) }
	if a.max > arenaMaxUnits {
		return fmt.Errorf("%w: an arena of %d units", ErrKind, a.max)
	}
	if err := checkArenaSize(off, extent, a.max); err != nil {
		return err
	}
	a.extend(extent, capacity)
	a.growForChildren()
	return nil
}
