package shm

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is the parent's side of a child's control page. csrc/control.h says
// who writes which part.
//
// The parent keeps the state that it relies on in its own memory. It reads each
// word that the child wrote once, by an atomic load, and checks the copy.
type control struct {
	page  *controlPage
	slot  uintptr      // the length of the child's slot, in bytes
	owner uint64       // the token of the process that made the page; no other has it mapped
	users atomic.Int32 // the number of users; the last one unmaps the page
}

// controlPages is the number of control pages that are mapped.
var controlPages atomic.Int64

// newControl returns the control of the page that a fork has made. If there is
// none, it returns nil.
func newControl(args *forkArgs) *control {
	if args.control == nil {
		return nil
	}
	controlPages.Add(1)
	c := &control{page: args.control, slot: args.slot, owner: processToken()}
	c.users.Store(1)
	return c
}

// isMapped reports whether there is a page, and this process has it mapped.
func (c *control) isMapped() bool { return c != nil && c.owner == processToken() }

// retain adds a user of the page, and returns false if there is none any more:
// then the page is unmapped. c may be nil.
func (c *control) retain() bool {
	if c == nil {
		return false
	}
	for {
		n := c.users.Load()
		if n == 0 {
			return false
		}
		if c.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release ends the use that newControl or retain began. c may be nil.
func (c *control) release() {
	if c.isMapped() && c.users.Add(-1) == 0 {
		c.page.unmap(c.slot)
		controlPages.Add(-1)
	}
}

// hasReply tells the child that the parent waits by the socket from now on, and
// reports whether the child has replied to the call.
func (c *control) hasReply(seq uint32) bool {
	atomic.StoreUint32(&c.page.request.waits, waitsBySocket)
	return atomic.LoadUint32(&c.page.reply.seq) == seq
}

// answer returns the length of the answer that the child has written to its
// slot, in bytes, and the length that the child's function had room for. Both
// are what the child says.
func (c *control) answer() (length, used uint64) {
	return atomic.LoadUint64(&c.page.reply.outLength), atomic.LoadUint64(&c.page.reply.outUsed)
}

// result returns the result that the child has written.
func (c *control) result() int { return int(atomic.LoadInt32(&c.page.reply.result)) }

// hasStarted reports whether the child may have started the call. Only the
// number of the previous call proves that it has not. Any other number may be
// garbage that the call has written.
func (c *control) hasStarted(seq uint32) bool {
	return atomic.LoadUint32(&c.page.reply.startedSeq) != seq-1
}

// hasCalledGo reports whether the child has recorded that it called Go.
func (c *control) hasCalledGo(status unix.WaitStatus) bool {
	return c.isMapped() && status.Exited() && status.ExitStatus() == calledGoStatus &&
		atomic.LoadUint32(&c.page.crash.calledGo) == 1
}

// crashRecord returns a copy of the child's crash record.
func (c *control) crashRecord() (r crashRecord) {
	const words = unsafe.Sizeof(r) / 4
	from, to := (*[words]uint32)(unsafe.Pointer(&c.page.crash)), (*[words]uint32)(unsafe.Pointer(&r))
	for i := range from {
		to[i] = atomic.LoadUint32(&from[i])
	}
	return r
}
