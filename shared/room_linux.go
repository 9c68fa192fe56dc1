//go:build cgo

package shared

import (
	"context"
	"sync/atomic"
	"time"
	"unsafe"

	"forkshm.example/shm"
)

// briefly is how long a call without a context waits for a room. A process is in a room for an instant,
// unless it died there and is not reaped yet, or is hostile.
var briefly = time.Second

// room is a lock within a structure, and a gate. csrc/room.h has the rules.
type room struct {
	lock mutex
	*gate
	recount func() // counts anew what the slots of all processes have
}

func (r *room) open(m *shm.Mapping, off int, kind uint32, fill func(addr unsafe.Pointer)) (addr unsafe.Pointer, err error) {
	s, err := openStructure(m, off, kind, roomSize, fill)
	if err != nil {
		return nil, err
	}
	words := (*roomWords)(s.addr)
	r.lock = mutex{structure: s, word: &words.word}
	r.gate = &words.gate
	return s.addr, nil
}

// enter enters the room. The error is ctx's: a hostile process can stay in the room.
func (r *room) enter(ctx context.Context, owner uint32) error {
	if !atomic.CompareAndSwapUint32(r.lock.word, 0, owner) {
		switch err := r.lock.wait(ctx, owner); err {
		case nil:
		case ErrOwnerDied:
			atomic.AndUint32(r.lock.word, ^uint32(mutexDied))
			r.recount()
		default:
			return err
		}
	}
	raceAcquire(r.lock.where)
	return nil
}

// end calls f in the room, to give up what the place has. If the room cannot be entered, end
// clears the place without f, and has the next one count anew.
func (r *room) end(h holding, f func()) {
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	if err := r.enter(ctx, h.owner); err != nil {
		h.set(heldNothing)
		atomic.OrUint32(r.lock.word, mutexDied)
	} else {
		f()
		r.leave()
	}
	r.gate.wake()
}

// leave leaves the room. A mender may have flagged the room meanwhile. The flag stays for who enters
// next.
func (r *room) leave() {
	raceRelease(r.lock.where)
	word := atomic.LoadUint32(r.lock.word)
	for !atomic.CompareAndSwapUint32(r.lock.word, word, word&(mutexFutex|mutexStarving|mutexDied)) {
		word = atomic.LoadUint32(r.lock.word)
	}
	if word&(mutexFutex|mutexBell) != 0 {
		r.lock.wake(word, 1)
	}
}

// mendRoom takes the room from an owner that died in it, and has the next one count anew. The owner's
// places in its slot are clear.
func mendRoom(d death) {
	r := (*roomWords)(d.at())
	for {
		seen := atomic.LoadUint32(&r.word)
		next := seen&^(mutexStarving|mutexBell) | mutexDied
		if seen&mutexOwner == d.owner {
			next &^= mutexOwner
		}
		if atomic.CompareAndSwapUint32(&r.word, seen, next) {
			break
		}
	}
	futexWake(&r.word, 1)
	r.gate.wakeAll()
}
