package shm

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is the parent's side of a child's control page. See csrc/control.h for who writes what there.
//
// The parent keeps in its own memory whatever it has to rely on. It reads what the child wrote by atomic loads, each
// once, and checks the copy.
type control struct {
	page  *controlPage
	owner uint64       // the token of the process that made the page: a copy of that process has no such page
	users atomic.Int32 // the last of them unmaps the page
}

// controlPages counts the pages that are mapped.
var controlPages atomic.Int64

// newControl takes over a page that a fork has made. A nil page has a nil control.
func newControl(page *controlPage) *control {
	if page == nil {
		return nil
	}
	controlPages.Add(1)
	c := &control{page: page, owner: processToken()}
	c.users.Store(1)
	return c
}

// isHere reports whether there is a page, in this process.
func (c *control) isHere() bool { return c != nil && c.owner == processToken() }

func (c *control) retain() { c.users.Add(1) }

// release gives up what newControl or retain gave; c may be nil.
func (c *control) release() {
	if c.isHere() && c.users.Add(-1) == 0 {
		c.page.unmap()
		controlPages.Add(-1)
	}
}

// isAnswered says that the parent waits by the socket now, and reports whether the child has answered the call.
func (c *control) isAnswered(seq uint32) bool {
	atomic.StoreUint32(&c.page.request.waits, waitsBySocket)
	return atomic.LoadUint32(&c.page.reply.seq) == seq
}

// result is what the child's function returned, as the child says.
func (c *control) result() int { return int(atomic.LoadInt32(&c.page.reply.result)) }

// isUnstarted reports whether the child has not begun the call: its last one is the one before. Any other number
// may be garbage that a call left which had begun.
func (c *control) isUnstarted(seq uint32) bool {
	return atomic.LoadUint32(&c.page.reply.startedSeq) == seq-1
}

// hasCalledGo reports whether the child recorded that it called Go.
func (c *control) hasCalledGo(status unix.WaitStatus) bool {
	return c.isHere() && status.Exited() && status.ExitStatus() == calledGoStatus && atomic.LoadUint32(&c.page.crash.calledGo) == 1
}

// crashRecord returns a copy of what the child recorded of its crash.
func (c *control) crashRecord() (r crashRecord) {
	const words = unsafe.Sizeof(r) / 4
	from, to := (*[words]uint32)(unsafe.Pointer(&c.page.crash)), (*[words]uint32)(unsafe.Pointer(&r))
	for i := range from {
		to[i] = atomic.LoadUint32(&from[i])
	}
	return r
}
