//go:build cgo

package shared

import (
	"context"
	"math/bits"
	"sync/atomic"
	"time"
	"unsafe"
)

// arenaOp is an operation on a block.
type arenaOp struct {
	arenaView
	a    *arena
	h    holding
	mine uint32 // what the cell is while it is this process's own
	block
}

// begin names the arena in this process's slot, and notes where the Ref lies.
func (a *arena) begin(ref *uint64) (arenaOp, error) {
	v := a.view()
	to := int64(uintptr(unsafe.Pointer(ref))) - int64(uintptr(unsafe.Pointer(a.words))) // negative before the arena
	start, end := -int64(a.lock.off), int64(a.extent.Load())-int64(a.lock.off)
	if to < start || to > end-8 || to%8 != 0 {
		return arenaOp{}, ErrOutside
	}
	h, err := hold(a.lock.where)
	if err != nil {
		return arenaOp{}, err
	}
	atomic.StoreInt64(&h.note[h.i].to, to)
	return arenaOp{arenaView: v, a: a, h: h, mine: h.owner | uint32(h.i)<<cellPlaceShift}, nil
}

// seize makes the block's cell this process's own, if the cell is as expected. The note is there
// before.
func (op *arenaOp) seize(b block, expected uint32) bool {
	op.block = b
	noted := b.off
	if expected == cellUsed {
		noted |= noteKeeps
	}
	atomic.StoreUint64(&op.h.note[op.h.i].block, noted)
	return atomic.CompareAndSwapUint32(b.cell, expected, op.mine)
}

func (a *arena) alloc(size uint64, to *uint64) (unsafe.Pointer, error) {
	class := classFor(size)
	if class >= arenaClasses {
		return nil, ErrFull
	}
	op, err := a.begin(to)
	if err != nil {
		return nil, err
	}
	defer op.h.release()
	if atomic.LoadUint64(to) != 0 {
		return nil, ErrNotNil
	}
	if err := op.take(class); err != nil {
		return nil, err
	}
	raceAcquire(a.lock.where ^ op.off)
	p := unsafe.Add(unsafe.Pointer(op.words), op.off)
	clear(unsafe.Slice((*byte)(p), size))
	if !atomic.CompareAndSwapUint64(to, 0, op.off) {
		atomic.StoreUint32(op.cell, cellFree)
		return nil, ErrNotNil
	}
	atomic.StoreUint32(op.cell, cellUsed)
	return p, nil
}

// classFor returns the class of the smallest blocks that have size bytes, and arenaClasses or more if
// none has.
func classFor(size uint64) uint32 {
	switch {
	case size <= arenaLargestSmall:
		return stepFor((size + 15) / 16)
	case size > arenaMaxUnits*arenaUnit:
		return arenaClasses
	}
	return arenaSmall - 1 + stepFor((size+arenaFirstLarge+arenaUnit-1)/arenaUnit)
}

// stepFor returns the step whose size is n or more. See stepSize.
func stepFor(n uint64) uint32 {
	if n <= 8 {
		return uint32(max(n, 1)) - 1
	}
	log := bits.Len64(n-1) - 1
	return 8 + uint32(log-3)*4 + uint32((n-1)>>(log-2)&3)
}

// take takes a block of the class.
func (op *arenaOp) take(class uint32) error {
	hint := &op.words.hint[class]
	for range 1000 { // a hostile process can have a round fail
		seen := atomic.LoadUint32(&hint.unit)
		if op.isChunk(seen, class) && op.takeOf(seen, class) {
			return nil
		}
		if atomic.LoadUint32(&hint.more) != 0 {
			atomic.StoreUint32(&hint.more, 0)
			if op.search(class, seen, false) {
				atomic.StoreUint32(&hint.more, 1)
				return nil
			}
		}
		err := op.makeChunk(class, seen)
		switch {
		case err == nil:
		case op.search(class, 0, true):
			return nil
		case err != ErrFull:
			return err
		default:
			if err := op.a.grow(uint64(atomic.LoadUint32(&op.words.next)) + uint64(classes[class].units)); err != nil {
				return err
			}
			op.arenaView = op.a.view()
		}
	}
	return ErrFull
}

// takeOf takes a block of the chunk, if one is free.
func (op *arenaOp) takeOf(unit, class uint32) bool {
	next := &op.chunk(unit).next
	i, n := atomic.LoadUint32(next), classes[class].blocks
	for range n {
		if i >= n {
			i = 0
		}
		b := op.blockAt(unit, class, i)
		if atomic.LoadUint32(b.cell) == cellFree && op.seize(b, cellFree) {
			atomic.StoreUint32(next, i+1)
			return true
		}
		i++
	}
	atomic.OrUint32(op.word(unit), unitFull)
	return false
}

// search takes a block of any chunk, also of those that are said to be full if all is set. It looks
// first behind the chunk that was seen.
func (op *arenaOp) search(class, seen uint32, all bool) (found bool) {
	take := func(unit, word uint32) (goOn bool) {
		if word&unitClass == class && (all || word&unitFull == 0) && op.takeOf(unit, class) {
			atomic.StoreUint32(&op.words.hint[class].unit, unit)
			found = true
		}
		return !found
	}
	first := arenaFirst(op.max)
	op.chunks(max(seen, first), op.units, take)
	if !found {
		op.chunks(first, min(seen, op.units), take)
	}
	return found
}

// makeChunk makes a chunk, unless another process has made one since the hint was seen.
func (op *arenaOp) makeChunk(class, seen uint32) error {
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	if err := op.a.enter(ctx, op.h.owner); err != nil {
		return ErrBusy
	}
	defer op.a.leave()
	hint := &op.words.hint[class].unit
	if atomic.LoadUint32(hint) != seen {
		return nil
	}
	next, c := atomic.LoadUint32(&op.words.next), &classes[class]
	if next < arenaFirst(op.max) || next > op.units || c.units > op.units-next {
		return ErrFull
	}
	clear(unsafe.Slice((*byte)(unsafe.Pointer(op.chunk(next))), c.first))
	for i := uint32(1); i < c.units; i++ {
		atomic.StoreUint32(op.word(next+i), next)
	}
	atomic.StoreUint32(op.word(next), unitFirst|class)
	atomic.StoreUint32(&op.words.next, next+c.units)
	atomic.StoreUint32(hint, next)
	return nil
}

func (a *arena) free(from *uint64) error {
	op, err := a.begin(from)
	if err != nil {
		return err
	}
	defer op.h.release()
	if err := op.seizeNamed(from); err != nil {
		return err
	}
	raceRelease(a.lock.where ^ op.off)
	if atomic.LoadUint64(from) != op.off { // another process was first, and the block may have a new owner
		atomic.StoreUint32(op.cell, cellUsed)
		return ErrNotAllocated
	}
	atomic.StoreUint64(&op.h.note[op.h.i].block, op.off)
	atomic.StoreUint64(from, 0)
	atomic.StoreUint32(op.cell, cellFree)
	op.hintAt(op.block)
	return nil
}

// seizeNamed makes the cell of the block that *from names this process's own.
func (op *arenaOp) seizeNamed(from *uint64) error {
	for range max(1, briefly/time.Millisecond) {
		b, ok := op.find(atomic.LoadUint64(from))
		if !ok {
			return ErrNotAllocated
		}
		if op.seize(b, cellUsed) {
			return nil
		}
		cell := atomic.LoadUint32(b.cell)
		switch {
		case cell == cellFree:
			return ErrNotAllocated
		case cell != cellUsed: // another process is about to take or to free the block, or has died
			futexWait(b.cell, cell, time.Millisecond)
		}
	}
	return ErrBusy
}

func init() { menders[kindArena] = mendArena }

// mendArena ends what a process was about to do with a block. The block is in use if the Ref names it,
// or if the note says that it stays in use.
func mendArena(d death) {
	v, ok := viewOf(d.mapping[d.off:])
	noted := atomic.LoadUint64(&d.note.block)
	b, found := v.find(noted &^ noteKeeps)
	if ok && found {
		next := uint32(cellFree)
		to := int64(d.off) + atomic.LoadInt64(&d.note.to)
		if noted&noteKeeps != 0 || to >= 0 && to <= int64(len(d.mapping))-8 && to%8 == 0 &&
			atomic.LoadUint64((*uint64)(unsafe.Pointer(&d.mapping[to]))) == b.off {
			next = cellUsed
		}
		if atomic.CompareAndSwapUint32(b.cell, d.owner|uint32(d.place)<<cellPlaceShift, next) && next == cellFree {
			v.hintAt(b)
		}
	}
	mendRoom(d)
}
