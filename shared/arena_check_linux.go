//go:build cgo

package shared

import (
	"context"
	"fmt"
	"sync/atomic"

	"forkshm.example/shm/internal/hook"
)

func (a *arena) stats() (ArenaStats, error) {
	v := a.view()
	s := ArenaStats{Size: int(v.units) * arenaUnit, Max: int(v.max) * arenaUnit}
	byClass := [arenaClasses]ArenaClass{}
	end := v.chunks(arenaFirst(v.max), v.units, func(unit, word uint32) bool {
		class := word & unitClass
		for i := range classes[class].blocks {
			switch b := v.blockAt(unit, class, i); {
			case atomic.LoadUint32(b.cell) == cellFree:
				byClass[class].Free++
			case a.isLost(b):
				s.Lost++
			default:
				byClass[class].Used++
			}
		}
		return true
	})
	s.Left = int(v.units-end) * arenaUnit
	for i, c := range byClass {
		if c.Used+c.Free > 0 {
			c.Size = int(classes[i].size)
			s.Classes = append(s.Classes, c)
			s.Used, s.Free = s.Used+c.Used, s.Free+c.Free
		}
	}
	return s, a.checkHeader()
}

// isLost reports whether the block's cell belongs to nobody who will finish with it.
func (a *arena) isLost(b block) bool {
	for range 100 { // an owner may finish while we look, and begin anew
		cell := atomic.LoadUint32(b.cell)
		if cell == cellFree || cell == cellUsed {
			return false
		}
		place := cell >> cellPlaceShift
		s := slotOf(cell & mutexOwner)
		if s != nil && place < held && atomic.LoadUint64(&s.held[place]) == a.lock.where &&
			atomic.LoadUint64(&s.note[place].block)&^noteKeeps == b.off {
			return false
		}
	}
	return true
}

func (a *arena) check() error {
	h, err := hold(a.lock.where)
	if err != nil {
		return err
	}
	defer h.release()
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	if err := a.enter(ctx, h.owner); err != nil {
		return a.broken("somebody makes a chunk for longer than %v: %w", briefly, err)
	}
	defer a.leave()
	if err := a.checkHeader(); err != nil {
		return err
	}
	v := a.view()
	end := v.chunks(arenaFirst(v.max), v.units, func(unit, word uint32) bool {
		err = a.checkChunk(v, unit, word)
		return err == nil
	})
	switch next := atomic.LoadUint32(&v.words.next); {
	case err != nil:
		return err
	case v.isShort() && hook.ProcessToken() != program: // the child of a live fork has not all chunks
		return nil
	case end != next:
		return a.broken("the chunks end at unit %d, must end at %d", end, next)
	}
	for unit := end; unit < v.units; unit++ {
		if word := atomic.LoadUint32(v.word(unit)); word != 0 {
			return a.broken("the word of unit %d is %#x, must be 0 behind the chunks", unit, word)
		}
	}
	return nil
}

func (a *arena) broken(format string, args ...any) error {
	return &Error{"arena", a.lock.off, fmt.Errorf(format, args...)}
}

// checkHeader checks what does not change.
func (a *arena) checkHeader() error {
	w := a.words
	s := a.lock.structure
	if err := s.check(&w.head, kindArena); err != nil {
		return &Error{"arena", a.lock.off, err}
	}
	if s.where != a.lock.where {
		return a.broken("the name is %#x, must be %#x", s.where, a.lock.where)
	}
	if got := atomic.LoadUint32(&w.max); got != a.max {
		return a.broken("the units are %d at most, must be %d", got, a.max)
	}
	if got := atomic.LoadUint32(&w.units); got > a.max || got <= arenaFirst(a.max) {
		return a.broken("the units are %d, must be more than %d and at most %d", got, arenaFirst(a.max), a.max)
	}
	return nil
}

// checkChunk checks a chunk's words in the table, and its cells.
func (a *arena) checkChunk(v arenaView, unit, word uint32) error {
	c := &classes[word&unitClass]
	for i := unit + 1; i < unit+c.units; i++ {
		if got := atomic.LoadUint32(v.word(i)); got != unit {
			return a.broken("the word of unit %d is %#x, must be %#x", i, got, unit)
		}
	}
	for i := range c.blocks {
		if b := v.blockAt(unit, word&unitClass, i); a.isLost(b) {
			return a.broken("the block at %d is lost: its cell is %#x", b.off, atomic.LoadUint32(b.cell))
		}
	}
	return nil
}
