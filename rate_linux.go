package shm

import (
	"sync"
	"time"
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
