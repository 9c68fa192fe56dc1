package live

import (
	"fmt"
	"strings"
)

// Kind says what a [Finding] is of.
type Kind int

const (
	_            Kind = iota
	Lock              // a lock, a sync.WaitGroup or the like, for which goroutines wait: it stays held
	Listener          // a socket that listens: parent and child accept from it
	Socket            // another socket: shared, and the child's poller does not know it
	Pipe              // a pipe or a FIFO: as a socket
	Terminal          // a terminal: shared
	Kernel            // an object of the kernel, as epoll(7) or eventfd(2): shared
	OpenFile          // a file that is open for writing, or locked: offset and locks are shared
	Timer             // timers of package time, deadlines: they do not fire
	SystemCall        // a goroutine in a system call or in C: its thread is gone
	LockedThread      // a goroutine that is locked to its thread: it gets a new one
	SharedMemory      // memory mapped MAP_SHARED: it is not frozen
)

var kinds = [...]struct{ name, child string }{
	Lock:         {"lock", "it stays held in the child"},
	Listener:     {"listener", "the child accepts from it too, but its poller does not know it"},
	Socket:       {"socket", "the child shares it, and cannot wait for it: its poller does not know it"},
	Pipe:         {"pipe", "the child shares it, and cannot wait for it: its poller does not know it"},
	Terminal:     {"terminal", "the child shares it"},
	Kernel:       {"kernel object", "the child shares it"},
	OpenFile:     {"file", "the child shares its offset and its locks"},
	Timer:        {"timer", "it does not fire in the child"},
	SystemCall:   {"system call", "the goroutine's thread is gone in the child"},
	LockedThread: {"locked thread", "the goroutine gets a new thread in the child"},
	SharedMemory: {"shared memory", "it is not frozen: the child sees what others write"},
}

// String returns, say, "listener".
func (k Kind) String() string {
	if k < Lock || int(k) >= len(kinds) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kinds[k].name
}

// Finding is something that a child could not use as its parent does.
type Finding struct {
	Kind Kind
	What string // as "sync.Mutex at 0xc000012345" or "tcp 127.0.0.1:80"
	FD   int    // the descriptor, -1 if there is none

	// Waiting has the goroutines that wait for it, or are in it.
	Waiting []Goroutine

	// Suspects has goroutines that may hold a lock: their stacks have a pointer
	// to it, or to the object on the heap that it is a part of, of at most 4 KiB.
	// A goroutine may have a pointer and not hold the lock, and the reverse.
	Suspects []Goroutine
}

// Goroutine is a goroutine at the instant of a [Check].
type Goroutine struct {
	ID       uint64
	State    string // as in traces
	Function string // where it is, but no function of the packages by which it waits
	File     string
	Line     int
}

// String returns, say, "goroutine 7 [sleep] at main.work (main.go:33)".
func (g Goroutine) String() string {
	return fmt.Sprintf("goroutine %d [%s] at %s (%s:%d)", g.ID, g.State, g.Function, g.File, g.Line)
}

// String returns a line for the finding, and an indented one for each goroutine.
func (f Finding) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%v: %s", f.Kind, f.What)
	if f.FD >= 0 {
		fmt.Fprintf(&s, ", descriptor %d", f.FD)
	}
	if f.Kind >= Lock && int(f.Kind) < len(kinds) {
		s.WriteString(": " + kinds[f.Kind].child)
	}
	for _, g := range f.Waiting {
		fmt.Fprintf(&s, "\n\twaited for by %v", g)
	}
	for _, g := range f.Suspects {
		fmt.Fprintf(&s, "\n\tmay be held by %v", g)
	}
	return s.String()
}
