package live

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// handlers are the functions that AtFork registered. A list is never changed,
// so that a fork needs no lock to read it.
type handlers []handler

type handler struct{ beforeFn, parentFn, childFn func() }

var atFork atomic.Pointer[handlers]

// AtFork registers functions that each later fork calls, as pthread_atfork(3)
// does. The before functions run ahead of the fork, the last one registered
// first. After the fork, the parent functions run in this process and the child
// functions in the child, the first one registered first. Each may be nil. If
// the fork fails, before and parent are called.
//
// A package that has locks takes them in before and releases them in parent. In
// child it calls [ResetLock]. If child released a lock instead, a frozen
// goroutine that waits for the lock would get it, and go on.
func AtFork(before, parent, child func()) {
	for {
		old := atFork.Load()
		var list handlers
		if old != nil {
			list = append(list, *old...)
		}
		list = append(list, handler{before, parent, child})
		if atFork.CompareAndSwap(old, &list) {
			return
		}
	}
}

// ResetLock makes a lock free in a child, whoever held the lock at the fork. If
// another goroutine held it, the data that the lock guards may be half changed.
// Goroutines that waited for the lock stay frozen. No goroutine of the child
// may use the lock yet. ResetLock panics in a process that is no child.
func ResetLock[L sync.Mutex | sync.RWMutex](l *L) {
	if !child.Load() {
		panic("live: ResetLock outside of a child")
	}
	runtimeResetLock(unsafe.Pointer(l), unsafe.Sizeof(*l))
}

func (h *handlers) before() {
	if h == nil {
		return
	}
	for i := len(*h) - 1; i >= 0; i-- {
		if fn := (*h)[i].beforeFn; fn != nil {
			fn()
		}
	}
}

func (h *handlers) parent() {
	if h == nil {
		return
	}
	for _, h := range *h {
		if h.parentFn != nil {
			h.parentFn()
		}
	}
}

func (h *handlers) child() {
	if h == nil {
		return
	}
	for _, h := range *h {
		if h.childFn != nil {
			h.childFn()
		}
	}
}
