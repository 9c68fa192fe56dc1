package shm

import (
	"time"
)

// Stats says what a mapping takes of the machine, in bytes, as this process
// sees it. See proc_pid_smaps(5).
type Stats struct {
	Mapped       int // all pages of the mapping
	Resident     int // the pages that are in memory
	Proportional int // the resident pages, each divided by the number of processes that map it
	PrivateDirty int // the pages that were written to, and that only this process maps
	Huge         int // the resident huge pages, transparent or explicit
	Locked       int // the pages locked by Lock or mlock(2)
	Swapped      int // the pages that are swapped out
}

// Crash says where a child died of SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGABRT.
// The child itself writes this record. A child that was taken over can write
// anything.
type Crash struct {
	// Code is si_code, see sigaction(2). A code of 0 or less means that a process
	// sent the signal, which may be the child itself.
	Code int32

	// Addr is the address that faulted. It is 0 if the processor does not report
	// the address, or if the signal was sent.
	Addr uintptr

	// PC is the address of the instruction. It is 0 on an architecture that the
	// package does not know.
	PC uintptr

	// Module is the file that has the instruction, under the name that the
	// child saw. A name that is not printable is quoted. Module is empty if the
	// instruction is not in a file.
	Module string

	// Offset is the distance from the module's beginning in memory to PC, in
	// bytes.
	Offset uintptr

	// Symbol is the function that has the instruction. Symbol is empty if this
	// process does not have the module, or if the module has no symbol table.
	Symbol string

	// Within is the distance from the function's beginning to PC, in bytes.
	Within uintptr

	callers *[]Frame // a pointer, so that a Crash stays comparable
}

// Callers returns the functions that led to the instruction, innermost first, up
// to the one that the child was given. For SIGABRT, abort itself is the first.
// At most 16 functions are recorded. The result is empty without glibc 2.35 or
// later, in a program that is linked statically, and if the child's stack is
// damaged. The child writes this record, too.
func (c *Crash) Callers() []Frame {
	if c.callers == nil {
		return nil
	}
	return *c.callers
}

// Frame is a function that has called another one.
type Frame struct {
	PC     uintptr // the address behind the call
	Module string  // the file that has it; empty if this process does not have that file there
	Offset uintptr // from the module's beginning in memory to PC, in bytes
	Symbol string  // the function; empty if it is not known
	Within uintptr // from the function's beginning to PC, in bytes
}

// Counters counts the children that [Mapping.Fork], [Call], a [Pool] and
// package live made since the program began. For expvar:
//
//	expvar.Publish("shm", expvar.Func(func() any { return shm.ReadCounters() }))
type Counters struct {
	Forks   uint64            // children made
	Failed  uint64            // forks that failed
	Live    int64             // children that are not reaped yet
	Exits   uint64            // children that exited, with any status
	Signals map[string]uint64 // children that a signal ended, by the signal's name: "SIGSEGV"
	Lost    uint64            // children whose status was lost

	LastForkTime  time.Duration // the time of the last fork, see Process.ForkTime
	WorstForkTime time.Duration // the longest time of a fork
}

// Memory says how much memory a child takes, in bytes. See proc_pid_smaps(5).
type Memory struct {
	Rss          int // the pages that are in memory
	Pss          int // the pages in memory, each divided by the number of processes that map it
	PrivateDirty int // the pages that were written to, and that only the child maps
	Swap         int // the pages that are swapped out
}

// PoolStats counts the calls of a pool.
type PoolStats struct {
	Calls    uint64 // calls that were sent to a child
	Failed   uint64 // calls that ended their child
	Restarts uint64 // children forked to replace lost ones
	Retired  uint64 // children that PoolConfig.MaxCalls has ended
}
