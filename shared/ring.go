package shared

import (
	"context"
	"io"

	"forkshm.example/shm"
)

// Ring carries records from one process, the producer, to one other process,
// the consumer. A record has any length up to Max, and is contiguous in memory.
// The producer writes it, and the consumer reads it, where it lies: nothing is
// copied.
//
//	buf, err := r.Reserve(ctx, n) // the producer; waits while the ring is full
//	copy(buf, record)
//	err = r.Commit()
//
//	rec, err := r.Peek(ctx) // the consumer; waits while the ring is empty
//	use(rec)
//	err = r.Release()
//
// A process becomes the producer or the consumer by its first call of that
// kind. It stays so until CloseWrite or CloseRead, or until it ends. One
// goroutine at a time calls Reserve and Commit, and one at a time Peek, Release
// and Read. Both ends may be in one process. For many producers take a ring for
// each, and a goroutine for each ring. The child of a live fork calls NewRing
// itself: a Ring of its parent returns [ErrTaken] there.
//
// If the producer ends, the consumer gets all records that were committed, and
// then an error: [io.EOF] if the producer closed its end or exited with status
// 0, and otherwise the [*shm.ExitError] that Wait returns for the producer. A
// process that did not reap the producer gets [ErrPeerDied]. If the consumer
// ends, Reserve returns [io.ErrClosedPipe] or such an error, at once. A ring
// does not outlive its ends: to begin anew, set its bytes to zero and call
// NewRing.
//
// A child that ends before its first call of the ring is not noticed, unless
// Watch has named the child.
//
// A Ring is valid as long as what shm.At returns. After the mapping has moved,
// NewRing finds the ring at the new address, and goes on with the next record.
// A mapping that grows in place leaves its rings as they are. C code uses the
// ring by shm_ring_open of shm_shared.h.
type Ring struct{ recordRing }

// NewRing makes a ring of size bytes at an offset of a Shared mapping, or finds
// the ring that is there. The offset and the size must be multiples of [Align].
// The bytes must be zero, or such a ring: see [NewMutex]. A record takes its
// length, up to a multiple of 8, and 8 bytes.
func NewRing(m *shm.Mapping, off, size int) (*Ring, error) {
	r := new(Ring)
	if err := r.open(m, off, size); err != nil {
		return nil, &Error{"ring", off, err}
	}
	return r, nil
}

// Max returns the length of the longest record, which takes half of the ring.
func (r *Ring) Max() int { return r.max() }

// Reserve waits until the ring has room for a record of n bytes, and returns
// that room, which may hold old bytes. The slice is valid until Commit. A
// Reserve without Commit is given up by the next one. The address of the first
// byte is a multiple of 8. The error is
//
//   - [ErrTaken]: another process is the producer.
//   - [io.ErrClosedPipe]: this end was closed, or the consumer's.
//   - an [*shm.ExitError] or [ErrPeerDied]: the consumer died.
//   - [ErrOverwritten]: somebody wrote to the ring's own bytes.
//   - [ErrTooMany], or ctx's error.
//   - an [*Error] that wraps [shm.ErrRange]: n is negative, or more than Max.
func (r *Ring) Reserve(ctx context.Context, n int) ([]byte, error) { return r.reserve(ctx, n) }

// Commit publishes the record that Reserve returned. If there is none, the
// error is [ErrNotHeld].
func (r *Ring) Commit() error { return r.commit() }

// Peek waits for a record, and returns it. The slice is a view of shared
// memory, and valid until Release: whoever can write to the ring can change it
// meanwhile. Use Read for a producer that is not trusted. Peek returns the same
// record again until Release. Errors are those of Reserve. At the end of all
// records the error is [io.EOF] if the producer closed its end or exited with
// status 0.
func (r *Ring) Peek(ctx context.Context) ([]byte, error) { return r.peek(ctx) }

// Release gives the room of the record that Peek returned back to the producer.
// If there is none, the error is [ErrNotHeld].
func (r *Ring) Release() error { return r.release() }

// Read waits for a record, copies it to p, and releases it. Read returns the
// record's length. If p is too short, the error is [io.ErrShortBuffer], and the
// record stays. Other errors are those of Peek.
func (r *Ring) Read(ctx context.Context, p []byte) (n int, err error) {
	rec, err := r.peek(ctx)
	switch {
	case err != nil:
		return 0, err
	case len(rec) > len(p):
		return len(rec), io.ErrShortBuffer
	}
	copy(p, rec)
	return len(rec), r.release()
}

// CloseWrite says that no more records come, and ends a Reserve that waits. The
// consumer gets the records that were committed, and then [io.EOF]. If another
// process is the producer, the error is [ErrTaken].
func (r *Ring) CloseWrite() error { return r.closeEnd(producer) }

// CloseRead says that no more records are read, and ends a Peek that waits.
// Reserve then returns [io.ErrClosedPipe]. If another process is the consumer,
// the error is [ErrTaken].
func (r *Ring) CloseRead() error { return r.closeEnd(consumer) }

// Watch says that p is, or will be, the process at the other end: then its end
// is noticed even if p ends before its first call of the ring, and even if p
// writes to memory that it should not. Call Watch once, right after the fork.
// Watch reaps p as soon as p ends. Others may still wait for p.
func (r *Ring) Watch(p *shm.Process) { r.watch(p) }
