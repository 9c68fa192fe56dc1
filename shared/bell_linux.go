//go:build cgo

package shared

import (
	"context"
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"forkshm.example/shm/internal/hook"
)

// The bell is a word in the table of owners. Whoever changes a word for which a goroutine waits rings the
// bell: adds 1 to it, and wakes by futex(2) who waits for it. In each process, one goroutine waits for the
// bell while others wait for words, and so one thread does. The goroutine then looks which words have
// changed, and wakes the goroutines that wait for them.
//
// Ringing cannot block, whatever a hostile process does. A descriptor could: its flags belong to all
// processes that have it.

const (
	// lookAgain is how long a goroutine waits before it looks for itself whether a word has changed.
	lookAgain = time.Second

	// A hostile process may ring all the time. After maxIdleRings times without a changed word, the
	// listener pauses.
	maxIdleRings = 100
	ringPause    = 100 * time.Microsecond
)

// bells is the goroutines of this process that wait for the bell.
var bells struct {
	sync.Mutex
	token   uint64 // of the process whose goroutine listens
	waiters map[*bellWaiter]struct{}
	begun   chan struct{} // has room for one: there is a waiter again
}

func init() { hook.Locks = append(hook.Locks, &bells.Mutex) }

// bellWaiter is one goroutine that waits while *word is value.
type bellWaiter struct {
	word  *uint32
	value uint32
	woken chan struct{} // has room for one
}

// bellWait waits while *word is value, until ctx ends, and for lookAgain at most. The error is ctx's.
func bellWait(ctx context.Context, word *uint32, value uint32) error {
	w := &bellWaiter{word, value, make(chan struct{}, 1)}
	w.enter()
	defer w.leave()
	if atomic.LoadUint32(word) != value {
		return nil
	}
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	select {
	case <-w.woken:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *bellWaiter) enter() {
	bells.Lock()
	defer bells.Unlock()
	if token := hook.ProcessToken(); bells.token != token { // a live fork's child has copies of its parent's
		bells.token = token
		bells.waiters = map[*bellWaiter]struct{}{}
		bells.begun = make(chan struct{}, 1)
		go listen(bells.begun)
	}
	bells.waiters[w] = struct{}{}
	if len(bells.waiters) == 1 {
		select {
		case bells.begun <- struct{}{}:
		default:
		}
	}
}

func (w *bellWaiter) leave() {
	bells.Lock()
	defer bells.Unlock()
	delete(bells.waiters, w)
}

// listen wakes goroutines whenever the bell rings. It holds a thread while a goroutine waits.
func listen(begun <-chan struct{}) {
	for idle := 0; ; {
		seen := atomic.LoadUint32(&family.bell)
		waiting, woken := wakeChanged()
		switch {
		case waiting == 0:
			<-begun
			continue
		case woken > 0:
			idle = 0
		default:
			idle++
		}
		if idle > maxIdleRings {
			time.Sleep(ringPause)
		}
		futexWait(&family.bell, seen, lookAgain)
	}
}

// wakeChanged wakes the goroutines whose words have changed. It returns how many wait, and how many of
// them it has woken.
func wakeChanged() (waiting, woken int) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	bells.Lock()
	defer bells.Unlock()
	for w := range bells.waiters {
		if w.hasChanged() {
			woken++
			select {
			case w.woken <- struct{}{}:
			default:
			}
		}
	}
	return len(bells.waiters), woken
}

// hasChanged returns true for memory that fails, too, as a child has cut the object short: whoever waits
// for the word finds that out in a goroutine of its own.
func (w *bellWaiter) hasChanged() (changed bool) {
	changed = true
	defer ignoreFault()
	return atomic.LoadUint32(w.word) != w.value
}

// ring wakes the goroutines of all processes that wait for a word that has changed.
func ring() {
	atomic.AddUint32(&family.bell, 1)
	futexWake(&family.bell, math.MaxInt32)
}
