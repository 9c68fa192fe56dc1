//go:build cgo

package shared

import (
	"context"
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm"
)

// barrier is csrc/barrier.c.
type barrier struct {
	room
	words *barrierWords
}

func init() { menders[kindBarrier] = mendRoom }

func (b *barrier) open(m *shm.Mapping, off, n int) error {
	if err := checkCount(n); err != nil {
		return err
	}
	addr, err := b.room.open(m, off, kindBarrier, func(addr unsafe.Pointer) {
		atomic.CompareAndSwapUint32(&(*barrierWords)(addr).parties, 0, uint32(n))
	})
	b.words = (*barrierWords)(addr)
	b.recount = func() { b.words.arrived = countHeld(b.lock.where, arrivedIn(b.words.round)) }
	return err
}

func (b *barrier) wait(ctx context.Context) error {
	h, err := hold(b.lock.where)
	if err != nil {
		return err
	}
	defer h.release()
	if err := b.enter(ctx, h.owner); err != nil {
		return err
	}
	round, last := b.arrive(h)
	b.leave()
	if last {
		b.gate.wake()
		return nil
	}
	isOver := func() bool { return atomic.LoadUint32(&b.words.round) != round }
	if err = b.gate.wait(ctx, isOver); err != nil {
		b.end(h, func() {
			h.set(heldNothing)
			if isOver() {
				err = nil
			} else {
				b.words.arrived--
			}
		})
	}
	raceAcquire(b.lock.where)
	return err
}

func arrivedIn(round uint32) uint64 { return heldArrived + uint64(round&31) }

// arrive returns the round, and whether this was its last party. The caller is in the room.
func (b *barrier) arrive(h holding) (round uint32, last bool) {
	round = b.words.round
	if b.words.arrived+1 < b.words.parties {
		h.set(arrivedIn(round))
		b.words.arrived++
		return round, false
	}
	atomic.StoreUint32(&b.words.round, round+1) // who counts anew from here on finds nobody in the round
	b.words.arrived = 0
	return round, true
}
