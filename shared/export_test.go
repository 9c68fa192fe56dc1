//go:build linux && cgo

package shared

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"

	"forkshm.example/shm/internal/testenv"
)

// Gate has the methods of a gate at an address.
type Gate struct{ g *gate }

func GateAt(addr *[2]uint32) Gate { return Gate{(*gate)(unsafe.Pointer(addr))} }

func (g Gate) Wait(ctx context.Context, ready func() bool) error { return g.g.wait(ctx, ready) }
func (g Gate) Wake()                                             { g.g.wake() }
func (g Gate) WakeAll()                                          { g.g.wakeAll() }

// WaitFlags are the flags of a lock for which somebody may wait.
const WaitFlags = mutexFutex | mutexBell

// Word returns the word of a lock.
func Word(l *Mutex) uint32 { return atomic.LoadUint32(l.word) }

// await waits until done returns true. It ends a test whose child or goroutine has ended before.
func await(done func() bool) {
	if !testenv.Eventually(done) {
		panic("whoever was to wait has ended, or hangs")
	}
}

// AwaitWaiters waits until threads and goroutines wait for the lock.
func AwaitWaiters(l *Mutex) {
	await(func() bool { return Word(l)&WaitFlags == WaitFlags })
}

// Held returns how many structures this process names in its slots.
func Held() (n int) {
	for _, s := range *own().slots.Load() {
		for i := range s.held {
			if atomic.LoadUint64(&s.held[i]) != 0 {
				n++
			}
		}
	}
	return n
}

// Owners returns how many slots are taken.
func Owners() (n int) {
	for i := range family.slot {
		if atomic.LoadUint32(&family.slot[i].state) != slotFree {
			n++
		}
	}
	return n
}

// AwaitBell waits until a goroutine waits for the bell.
func AwaitBell(l *Mutex) {
	await(func() bool { return Word(l)&mutexBell != 0 })
}

// Meet returns when two parties have called it.
func Meet(ready *uint32) {
	for atomic.AddUint32(ready, 1); atomic.LoadUint32(ready)%2 != 0; {
		time.Sleep(10 * time.Microsecond)
	}
}

// Arrived returns how many parties are at a barrier.
func Arrived(b *Barrier) uint32 {
	h, err := hold(b.lock.where)
	if err != nil {
		panic(err)
	}
	defer h.release()
	if err := b.enter(context.Background(), h.owner); err != nil {
		panic(err)
	}
	defer b.leave()
	return b.words.arrived
}

// AwaitWaiter waits until a thread or a goroutine waits for the lock. A goroutine that gets no processor
// for a moment does not wait by futex(2) at all.
func AwaitWaiter(l *Mutex) {
	await(func() bool { return Word(l)&WaitFlags != 0 })
}

// AwaitThread waits until a thread waits for the lock by futex(2).
func AwaitThread(l *Mutex) {
	await(func() bool { return Word(l)&mutexFutex != 0 })
}

// Briefly sets how long a call without a context waits for a hostile process.
func Briefly(d time.Duration) (former time.Duration) {
	former, briefly = briefly, d
	return former
}

// kindProbe is a kind of structure that tests alone have. Its mender calls onMend.
const kindProbe = 0x6d6872ff

var onMend atomic.Pointer[func()]

func init() {
	menders[kindProbe] = func(death) {
		if f := onMend.Load(); f != nil {
			(*f)()
		}
	}
}

// EndOwner ends an owner with two slots, whose places all name a structure at the mapping's beginning.
// It returns how many places name the structure at each of its mendings.
func EndOwner(m *shm.Mapping) (left []int, err error) {
	s, err := openStructure(m, 0, kindProbe, Align, func(unsafe.Pointer) {})
	if err != nil {
		return nil, err
	}
	first, other := takeOwner(slotGiven), takeOwner(slotTaken)
	atomic.StoreUint32(&slotOf(other).of, first)
	atomic.StoreUint32(&slotOf(first).more, 1)
	for i := range held {
		atomic.StoreUint64(&slotOf(first).held[i], s.where)
		atomic.StoreUint64(&slotOf(other).held[i], s.where)
	}
	count := func() { left = append(left, int(countHeld(s.where, heldNothing))) }
	onMend.Store(&count)
	defer onMend.Store(nil)
	hook.OwnerEnded(first, nil)
	return left, nil
}

// OwnSlots returns the memory of this process's slots.
func OwnSlots() (all [][]byte) {
	for _, s := range *own().slots.Load() {
		all = append(all, unsafe.Slice((*byte)(unsafe.Pointer(s.slot)), unsafe.Sizeof(*s.slot)))
	}
	return all
}

// Scribble writes garbage to an owner's slot.
func Scribble(owner uint32) {
	s := slotOf(owner)
	for i := range s.held {
		atomic.StoreUint64(&s.held[i], rand.Uint64()>>rand.IntN(64))
	}
	atomic.StoreUint32(&s.more, rand.Uint32())
}

// BlockClass returns what Go says of a size class: units, blocks, first, size.
func BlockClass(class uint32) [4]uint64 {
	c := classes[class]
	return [4]uint64{uint64(c.units), uint64(c.blocks), uint64(c.first), c.size}
}

// ArenaClasses is how many size classes there are.
const ArenaClasses = arenaClasses

// ArenaClassFor returns the class that Go has for a size.
func ArenaClassFor(size uint64) uint32 { return classFor(size) }

// ArenaMeta returns the arena's own bytes: the header, the table, and the beginning of each chunk.
func ArenaMeta(a *Arena) (meta [][]byte) {
	v := a.view()
	at := func(off, n uint64) []byte {
		return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(v.words), off)), n)
	}
	meta = append(meta, at(0, uint64(arenaTable)+4*uint64(v.max)))
	v.chunks(arenaFirst(v.max), v.units, func(unit, word uint32) bool {
		meta = append(meta, at(uint64(unit)*arenaUnit, uint64(classes[word&unitClass].first)))
		return true
	})
	return meta
}

// ForgetHints sets the hints of an arena to zero, and says that all chunks are full.
func ForgetHints(a *Arena) {
	v := a.view()
	v.words.hint = [arenaClasses]arenaHint{}
	v.chunks(arenaFirst(v.max), v.units, func(unit, word uint32) bool {
		*v.word(unit) = word | unitFull
		return true
	})
}

// AwaitClaimed waits until this process is the consumer of a ring.
func AwaitClaimed(r *Ring) {
	await(func() bool { return atomic.LoadUint32(r.word(consumer)) != 0 })
}

// CountCells looks at each cell of an arena once.
func CountCells(a *Arena) (used int) {
	v := a.view()
	v.chunks(arenaFirst(v.max), v.units, func(unit, word uint32) bool {
		for i := range classes[word&unitClass].blocks {
			if atomic.LoadUint32(v.blockAt(unit, word&unitClass, i).cell) != cellFree {
				used++
			}
		}
		return true
	})
	return used
}

// DieInAlloc takes a block as Alloc does, and mends the arena as if the process had died then.
func DieInAlloc(a *Arena, to *uint64) {
	op, err := a.begin(to)
	if err != nil {
		panic(err)
	}
	defer op.h.release()
	if err := op.take(classFor(64)); err != nil {
		panic(err)
	}
	mendArena(death{mapping: a.lock.m.Bytes(), off: a.lock.off, owner: op.h.owner, place: op.h.i, note: &op.h.note[op.h.i]})
}

var rung atomic.Uint32 // the bell, at the last call of Rings

// Rings returns how often the bell was rung since the last call.
func Rings() uint64 {
	now := atomic.LoadUint32(&family.bell)
	return uint64(now - rung.Swap(now))
}

// SleepByBell says that a goroutine waits for an event.
func SleepByBell(e *Event) { atomic.OrUint32(&e.words.gate.sleepers, sleepsByBell) }

// DieMakingAChunk makes the arena what it is when a process has died that had made the last chunk and
// not said so.
func DieMakingAChunk(a *Arena) {
	v := a.view()
	last := uint32(0)
	v.chunks(arenaFirst(v.max), v.units, func(unit, _ uint32) bool { last = unit; return true })
	atomic.StoreUint32(&v.words.next, last)
	atomic.OrUint32(a.lock.word, mutexDied)
}

// RecountWith enters the arena's room as a process that has only so many of its units.
func RecountWith(a *Arena, units uint32) {
	former := a.recount
	defer func() { a.recount = former }()
	a.recount = func() { a.recountIn(arenaView{a.words, a.max, units}) }
	h, err := hold(a.lock.where)
	if err != nil {
		panic(err)
	}
	defer h.release()
	if err := a.enter(context.Background(), h.owner); err != nil {
		panic(err)
	}
	a.leave()
}

// RingBell rings the bell.
func RingBell() { ring() }

// GrowAsWanted does what the goroutine does that makes arenas grow for children.
func GrowAsWanted(a *Arena) { a.growAsWanted() }

// IsUsed reports whether the cell of the block at an offset says that the block is in use, and not that
// a process is about to take or to free it.
func IsUsed(a *Arena, off uint64) bool {
	b, ok := a.view().find(off)
	return ok && atomic.LoadUint32(b.cell) == cellUsed
}
