package shared

import (
	"context"

	"forkshm.example/shm"
)

// Event is a flag in shared memory that processes and goroutines wait for. What
// was written before Set is seen after Wait. C code uses shm_event_wait and
// shm_event_set of shm_shared.h.
type Event struct{ event }

// NewEvent makes an event that is not set, or finds the one that is there. The
// offset and the [EventSize] bytes are as for [NewMutex].
func NewEvent(m *shm.Mapping, off int) (*Event, error) {
	e := new(Event)
	if err := e.open(m, off); err != nil {
		return nil, &Error{"event", off, err}
	}
	return e, nil
}

// Wait waits until the event is set. The error is ctx's. A waiter may miss a Set
// that a Reset follows.
func (e *Event) Wait(ctx context.Context) error { return e.wait(ctx) }

// Set sets the event, and wakes all that wait.
func (e *Event) Set() { e.set() }

// Reset makes later calls of Wait wait again.
func (e *Event) Reset() { e.reset() }

// IsSet reports whether the event is set.
func (e *Event) IsSet() bool { return e.isSet() }
