package shared

import (
	"context"

	"forkshm.example/shm"
)

// Barrier is a place in shared memory where a number of parties wait for each
// other, round after round. A party is a goroutine, or a thread of C. A party that
// gives up while it waits, or whose process ends, does not count: the others
// wait for another party in its place. C code uses shm_barrier_wait of
// shm_shared.h.
type Barrier struct{ barrier }

// NewBarrier makes a barrier for n parties, or finds the one that is there, which
// keeps its number of parties. The offset and the [BarrierSize] bytes are as for
// [NewMutex].
func NewBarrier(m *shm.Mapping, off, n int) (*Barrier, error) {
	b := new(Barrier)
	if err := b.open(m, off, n); err != nil {
		return nil, &Error{"barrier", off, err}
	}
	return b, nil
}

// Wait waits until all parties wait. The error is ctx's, or [ErrTooMany].
func (b *Barrier) Wait(ctx context.Context) error { return b.wait(ctx) }
