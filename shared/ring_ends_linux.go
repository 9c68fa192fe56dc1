//go:build cgo

package shared

import (
	"context"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"
	"weak"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"
)

// ringEnds is what this process knows of a ring. All Rings of the same ring share it, at whatever
// address each has the ring.
type ringEnds struct {
	token   uint64 // of this process: a live fork's child has a copy
	end     [2]ringEnd
	fates   [2]atomic.Pointer[fate] // of the processes that were the ends, as far as this process reaped them
	watched atomic.Pointer[fate]    // of the process that Watch has named
}

// ringEnd is one end of a ring.
type ringEnd struct {
	claimed   atomic.Bool // whether this process is the end
	position  uint64
	offset    int // where the next record is
	available int // bytes that are free, or to be read, as far as this end knows
	taken     int // bytes that Commit or Release is done with, or 0
}

// pass is done with n bytes, and tells nobody.
func (e *ringEnd) pass(n, capacity int) {
	e.position += uint64(n)
	e.available -= n
	if e.offset += n; e.offset >= capacity {
		e.offset -= capacity
	}
}

// fate is how a process has ended: err is what Wait returned.
type fate struct{ err error }

// error returns what the other end is told. It is io.EOF for a process that exited with status 0.
func (f *fate) error() error {
	if f.err == nil {
		return io.EOF
	}
	return f.err
}

// heldAs says what the ends are in slots.
var heldAs = [2]uint64{heldProduces, heldConsumes}

// rings has what this process knows of rings, by their names.
var rings = struct {
	sync.Mutex
	ends map[uint64]weak.Pointer[ringEnds]
}{ends: map[uint64]weak.Pointer[ringEnds]{}}

func init() {
	hook.Locks = append(hook.Locks, &rings.Mutex)
	menders[kindRing] = mendRing
	forgetters = append(forgetters, leaveRings)
}

// endsOf returns what this process knows of a ring.
func endsOf(where uint64, isNew bool) *ringEnds {
	rings.Lock()
	defer rings.Unlock()
	token := hook.ProcessToken()
	if e := rings.ends[where].Value(); e != nil && e.token == token && !isNew {
		return e
	}
	e := &ringEnds{token: token}
	rings.ends[where] = weak.Make(e)
	runtime.AddCleanup(e, forgetRing, where)
	return e
}

func forgetRing(where uint64) {
	rings.Lock()
	defer rings.Unlock()
	if rings.ends[where].Value() == nil {
		delete(rings.ends, where)
	}
}

// ended returns nil, or how the process at the end has ended: io.EOF if it closed its end.
func (ends *ringEnds) ended(words *ringWords, which int) error {
	flags := atomic.LoadUint32(&words.end[which]) & ringFlags
	watched := ends.watched.Load()
	switch {
	case flags == 0 && watched == nil:
		return nil
	case flags&ringClosed != 0:
		return io.EOF
	case watched != nil:
		return watched.error()
	}
	if f := ends.fates[which].Load(); f != nil {
		return f.error()
	}
	return ErrPeerDied
}

// mendRing ends an end of a process that died, and wakes the other end. The process may have died
// after it published something and before it woke the other.
func mendRing(d death) {
	which := producer
	switch d.named & heldMask {
	case heldProduces:
	case heldConsumes:
		which = consumer
	default:
		return
	}
	if len(d.mapping)-d.off < RingHeaderSize {
		return
	}
	words := (*ringWords)(d.at())
	if seen := atomic.LoadUint32(&words.end[which]); seen == 0 || seen == d.owner {
		tellFate(d.named&^heldMask, which, d.result)
		flag := uint32(ringDied)
		if d.result == nil {
			flag = ringClosed
		}
		atomic.CompareAndSwapUint32(&words.end[which], seen, d.owner|flag)
	}
	words.side[1-which].gate.wakeAll()
}

// tellFate notes how the process at an end has ended.
func tellFate(where uint64, which int, result error) {
	rings.Lock()
	defer rings.Unlock()
	if e := rings.ends[where].Value(); e != nil {
		e.fates[which].Store(&fate{result})
	}
}

// watch notes how p ends, and wakes who waits at the ring then.
func (ends *ringEnds) watch(m *shm.Mapping, off int, p *shm.Process) {
	go func() {
		ends.watched.Store(&fate{p.Wait(context.Background())})
		hook.View(m, func(addr unsafe.Pointer, length int) {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer ignoreFault()
			if length-off >= RingHeaderSize {
				words := (*ringWords)(unsafe.Add(addr, off))
				words.side[producer].gate.wakeAll()
				words.side[consumer].gate.wakeAll()
			}
		})
	}()
}

// leaveRings clears the places that name a ring of a mapping. A process stays the end of a ring until
// it closes its end, or until it has no mapping with the ring any more.
func leaveRings(mapping uint32) {
	p := own()
	if p == nil {
		return
	}
	for _, s := range *p.slots.Load() {
		for i := range s.held {
			named := atomic.LoadUint64(&s.held[i])
			what := named & heldMask
			if number, _ := placeOf(named); number == mapping && (what == heldProduces || what == heldConsumes) {
				atomic.CompareAndSwapUint64(&s.held[i], named, 0)
			}
		}
	}
}
