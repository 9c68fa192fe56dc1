//go:build cgo

package shared

import (
	"context"
	"sync/atomic"

	"forkshm.example/shm/internal/hook"
)

// turns lets goroutines of this process wait in line, so that only the first of them waits for other
// processes. The zero value is ready.
type turns struct{ current atomic.Pointer[line] }

// line is the line of one process. The child of a live fork has a copy of its parent's, with
// goroutines that do not go on.
type line struct {
	token uint64
	turn  chan struct{} // holds an element while a goroutine has the turn; who waits to send gets it in order
}

// take waits for the caller's turn.
func (t *turns) take(ctx context.Context) (*line, error) {
	token := hook.ProcessToken()
	l := t.current.Load()
	for l == nil || l.token != token {
		t.current.CompareAndSwap(l, &line{token, make(chan struct{}, 1)})
		l = t.current.Load()
	}
	select {
	case l.turn <- struct{}{}:
		return l, nil
	default:
	}
	select {
	case l.turn <- struct{}{}:
		return l, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// end gives the turn to the next in the line.
func (l *line) end() { <-l.turn }
