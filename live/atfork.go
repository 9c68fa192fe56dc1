package live

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// handlers are what AtFork was given. A list is never changed, so that a fork
// needs no lock for it.
type handlers []handler

type handler struct{ beforeFn, parentFn, childFn func() }

var atFork atomic.Pointer[handlers]

// AtFork has functions called around every later fork, as pthread_atfork(3)
// does: before in the parent ahead of it, the latest registered first; parent
// and child in the two processes after it, the first registered first. Each may
// be nil. So a package that has locks takes them before, and releases them in
// both: in the child by [ResetLock], or a goroutine that was waiting for the
// lock as it was frozen gets it, and goes on. They are called also for a fork
// that fails: then before and parent.
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

// ResetLock makes a lock free in a child, whoever held it at the fork: another
// goroutine then may have left what it guards half done. Those that waited for
// it are forgotten, and stay frozen. It is for locks that no goroutine of the
// child's uses yet. In a process that is no child it panics.
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
