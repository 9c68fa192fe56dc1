package shm

import (
	"sync"
	"time"
)

const (
	// A waiting call checks for the reply from time to time, even if nothing
	// wakes the call. A hostile child, or another process that has the socket,
	// may have read the byte that wakes the call. The interval doubles from the
	// first value to the second.
	minCheckInterval = 10 * time.Millisecond
	maxCheckInterval = time.Second
)

// restartRate spaces out what replaces something that was lost.
type restartRate struct {
	mu  sync.Mutex
	due time.Time // the time of the last restart, which may be ahead
}

// next returns the time of the next restart, so that there are so many per second, after a burst of
// the same number.
func (r *restartRate) next(perSecond int) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if burst := time.Now().Add(-time.Second); r.due.Before(burst) {
		r.due = burst
	}
	r.due = r.due.Add(time.Second / time.Duration(perSecond))
	return r.due
}
