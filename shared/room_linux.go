//go:build cgo

package shared

import (
	"context"
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm"
)

// room is a lock within a structure, and a gate. csrc/room.h has the rules.
type room struct {
	lock mutex
	*gate
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

// enter enters the room, and reports whether the caller must count anew.
func (r *room) enter(owner uint32) (recount bool) {
	if !atomic.CompareAndSwapUint32(r.lock.word, 0, owner) &&
		r.lock.wait(context.Background(), owner) == ErrOwnerDied {
		atomic.AndUint32(r.lock.word, ^uint32(mutexDied))
		recount = true
	}
	raceAcquire(r.lock.where)
	return recount
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
func mendRoom(memory []byte, owner uint32, _ *slot) {
	r := (*roomWords)(unsafe.Pointer(unsafe.SliceData(memory)))
	for {
		seen := atomic.LoadUint32(&r.word)
		next := seen&^(mutexStarving|mutexBell) | mutexDied
		if seen&mutexOwner == owner {
			next &^= mutexOwner
		}
		if atomic.CompareAndSwapUint32(&r.word, seen, next) {
			break
		}
	}
	futexWake(&r.word, 1)
	r.gate.wakeAll()
}
