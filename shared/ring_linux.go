//go:build cgo

package shared

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"
)

// recordRing is csrc/ring.c: csrc/ring.h has the rules. What the process at the other end can write is read
// once, and checked.
type recordRing struct {
	structure
	words *ringWords
	data  []byte // where the records are
	*ringEnds
}

func (r *recordRing) open(m *shm.Mapping, off, size int) (err error) {
	if size%Align != 0 || size < RingHeaderSize+Align {
		return fmt.Errorf("the size is %d bytes, must be a multiple of %d, and %d at least: %w",
			size, Align, RingHeaderSize+Align, unix.EINVAL)
	}
	isNew := false
	r.structure, err = openStructure(m, off, kindRing, size, func(addr unsafe.Pointer) {
		isNew = true
		atomic.CompareAndSwapUint64(&(*ringWords)(addr).size, 0, uint64(size))
	})
	if err != nil {
		return err
	}
	r.words = (*ringWords)(r.addr)
	if seen := atomic.LoadUint64(&r.words.size); seen != uint64(size) {
		return fmt.Errorf("the ring has %d bytes, and not %d: %w", seen, size, unix.EINVAL)
	}
	r.data = unsafe.Slice((*byte)(unsafe.Add(r.addr, RingHeaderSize)), size-RingHeaderSize)
	r.ringEnds = endsOf(r.where, isNew)
	return nil
}

func (r *recordRing) watch(p *shm.Process) { r.ringEnds.watch(r.m, r.off, p) }

func (r *recordRing) max() int { return min(len(r.data)/2-recordSize, ringLongest) }

func (r *recordRing) word(which int) *uint32 { return &r.words.end[which] }

// enter returns this process's end.
func (r *recordRing) enter(which int) (*ringEnd, error) {
	e := &r.end[which]
	if e.claimed.Load() && r.token == hook.ProcessToken() {
		return e, nil
	}
	return e, r.claim(which)
}

// claim makes this process the end, unless another one is it.
func (r *recordRing) claim(which int) error {
	if r.token != hook.ProcessToken() {
		return fmt.Errorf("%w: this process is a copy of it, and needs a Ring of its own", ErrTaken)
	}
	rings.Lock()
	defer rings.Unlock()
	e, name := &r.end[which], r.where|heldAs[which]
	if e.claimed.Load() {
		return nil
	}
	h, found := findSet(r.where, heldAs[which])
	if !found {
		var err error
		if h, err = hold(name); err != nil {
			return err
		}
	}
	if err := r.become(which, h.owner); err != nil {
		h.release()
		return err
	}
	*e = ringEnd{position: atomic.LoadUint64(&r.words.side[which].position)}
	e.offset = int(e.position % uint64(len(r.data)))
	e.claimed.Store(true)
	return nil
}

func (r *recordRing) become(which int, owner uint32) error {
	if atomic.CompareAndSwapUint32(r.word(which), 0, owner) {
		return nil
	}
	switch seen := atomic.LoadUint32(r.word(which)); {
	case seen&ringFlags != 0:
		return io.ErrClosedPipe
	case seen != owner:
		return ErrTaken
	}
	return nil
}

func (r *recordRing) closeEnd(which int) error {
	if err := r.claim(which); err == io.ErrClosedPipe {
		return nil
	} else if err != nil {
		return err
	}
	r.leave(which)
	return nil
}

// leave says that this process is the end no more. Of several goroutines only one gives the end's place
// in the slot back, as the place may name another structure an instant later.
func (r *recordRing) leave(which int) {
	rings.Lock()
	defer rings.Unlock()
	r.end[which].claimed.Store(false)
	atomic.OrUint32(r.word(which), ringClosed)
	r.words.side[1-which].gate.wake() // before the place is given back, for the case of a death
	r.words.side[which].gate.wake()
	if h, ok := findSet(r.where, heldAs[which]); ok {
		h.release()
	}
}

// errNotYet means that an end must wait.
var errNotYet = errors.New("shared: not yet")

// await waits until n bytes are available.
func (r *recordRing) await(ctx context.Context, which, n int) error {
	e := &r.end[which]
	if e.available >= n && (which == consumer ||
		atomic.LoadUint32(r.word(consumer))&ringFlags == 0 && r.watched.Load() == nil) {
		return nil
	}
	err := r.look(which, n)
	if err != errNotYet {
		return err
	}
	side, round := &r.words.side[which], 0
	waitErr := side.gate.wait(ctx, func() bool {
		atomic.StoreUint64(&side.wakeAt, r.wakeAt(which, n, round))
		round++
		err = r.look(which, n)
		return err != errNotYet
	})
	atomic.StoreUint32(&side.gate.sleepers, 0) // nobody else sleeps there
	if err == errNotYet {
		return waitErr
	}
	return err
}

// wakeAt returns the position of the other end at which this one is to be woken. While a producer
// waits on its thread it waits for half of the ring to be free, and later for what it needs.
func (r *recordRing) wakeAt(which, n, round int) uint64 {
	if which == consumer {
		return r.end[which].position + uint64(n)
	}
	if round == 0 {
		n = max(n, len(r.data)/2)
	}
	return r.end[which].position + uint64(n) - uint64(len(r.data))
}

// look returns nil if n bytes are available, errNotYet if they may be later, or why they will not be.
func (r *recordRing) look(which, n int) error {
	ended := r.ended(r.words, 1-which) // before the position: what a process has published comes before its end
	if atomic.LoadUint32(r.word(which))&ringFlags != 0 {
		return io.ErrClosedPipe
	}
	if err := r.refresh(which); err != nil {
		return err
	}
	switch {
	case r.end[which].available >= n && (which == consumer || ended == nil):
		return nil
	case ended == nil:
		return errNotYet
	case ended == io.EOF && which == producer:
		return io.ErrClosedPipe
	}
	return ended
}

// refresh reads the other end's position once. This end's own was in the ring when the process became
// the end.
func (r *recordRing) refresh(which int) error {
	e := &r.end[which]
	published := atomic.LoadUint64(&r.words.side[1-which].position) - e.position
	if which == producer {
		published = -published
	}
	if published > uint64(len(r.data)) || (published|e.position)%recordSize != 0 {
		return ErrOverwritten
	}
	e.available = int(published)
	if which == producer {
		e.available = len(r.data) - int(published)
	}
	return nil
}

// advance publishes or releases what was taken, and wakes the other end if it waits for that.
func (r *recordRing) advance(which int) error {
	e, peer := &r.end[which], &r.words.side[1-which]
	if e.taken == 0 || !e.claimed.Load() || r.token != hook.ProcessToken() {
		return ErrNotHeld
	}
	e.pass(e.taken, len(r.data))
	e.taken = 0
	raceRelease(r.where + uint64(which))
	atomic.StoreUint64(&r.words.side[which].position, e.position)
	if atomic.LoadUint32(&peer.gate.sleepers) != 0 && int64(e.position-atomic.LoadUint64(&peer.wakeAt)) >= 0 {
		peer.gate.wake()
	}
	return nil
}

// length returns the address of a record's length.
func (r *recordRing) length(offset int) *uint32 { return (*uint32)(unsafe.Pointer(&r.data[offset])) }

// sizeOf returns how many bytes a record of n bytes takes.
func sizeOf(n int) int { return recordSize + (n+7)&^7 }

func (r *recordRing) reserve(ctx context.Context, n int) ([]byte, error) {
	if n < 0 || n > r.max() {
		return nil, &Error{"reserve in the ring", r.off,
			fmt.Errorf("a record of %d bytes, must have from 0 to %d: %w", n, r.max(), shm.ErrRange)}
	}
	e, err := r.enter(producer)
	if err != nil {
		return nil, err
	}
	e.taken = 0
	size, skip, at := sizeOf(n), 0, e.offset
	if rest := len(r.data) - e.offset; rest < size {
		skip, at = rest, 0
	}
	if err := r.await(ctx, producer, skip+size); err != nil {
		return nil, err
	}
	raceAcquire(r.where + consumer)
	if skip > 0 {
		*r.length(e.offset) = ringSkip
	}
	*r.length(at) = uint32(n)
	e.taken = skip + size
	return r.data[at+recordSize : at+recordSize+n : at+recordSize+n], nil
}

func (r *recordRing) commit() error { return r.advance(producer) }

func (r *recordRing) peek(ctx context.Context) ([]byte, error) {
	e, err := r.enter(consumer)
	if err != nil {
		return nil, err
	}
	e.taken = 0
	if err := r.await(ctx, consumer, recordSize); err != nil {
		return nil, err
	}
	length := r.nextLength(e)
	n := int(length)
	if length > uint32(r.max()) || sizeOf(n) > min(e.available, len(r.data)-e.offset) {
		return nil, ErrOverwritten
	}
	raceAcquire(r.where + producer)
	e.taken = sizeOf(n)
	at := e.offset + recordSize
	return r.data[at : at+n : at+n], nil
}

// nextLength reads the length of the next record once, and passes what the producer has skipped.
func (r *recordRing) nextLength(e *ringEnd) uint32 {
	length, rest := atomic.LoadUint32(r.length(e.offset)), len(r.data)-e.offset
	if length != ringSkip || e.offset == 0 || e.available <= rest {
		return length
	}
	e.pass(rest, len(r.data))
	return atomic.LoadUint32(r.length(0))
}

func (r *recordRing) release() error { return r.advance(consumer) }
