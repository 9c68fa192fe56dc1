package shm

import (
	"time"
)

// Stats is what a mapping takes of the machine, in bytes, as this process sees it. See proc(5), smaps.
type Stats struct {
	Mapped       int // whole pages
	Resident     int // in memory
	Proportional int // the same, each page divided by how many processes map it
	PrivateDirty int // written to, and mapped by this process alone
	Huge         int // in huge pages, transparent or explicit
	Locked       int // by Lock or mlock(2)
	Swapped      int
}

// Crash says where a child was when it died of SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGABRT. The child itself recorded
// this: a child that was taken over can lie about all of it.
type Crash struct {
	Code int32   // si_code, see sigaction(2): 0 or less where a process sent the signal, itself included
	Addr uintptr // of a fault, the address that faulted; 0 where the processor does not tell, and where the signal was sent
	PC   uintptr // the instruction; 0 if the architecture is not known

	Module string  // the file that this is from, as the child had it, quoted if it is not printable; empty if from none
	Offset uintptr // of PC, from where the module begins in memory, in bytes
	Symbol string  // the function that it is in, if this process has the module, too, and that has a symbol table
	Within uintptr // of PC, from the symbol, in bytes
}

// Counters tells of the children of this program, made by [Mapping.Fork], [Call], a [Pool] and package
// live, since it began. For expvar:
//
//	expvar.Publish("shm", expvar.Func(func() any { return shm.ReadCounters() }))
type Counters struct {
	Forks   uint64            // children made
	Failed  uint64            // forks that failed
	Live    int64             // children not reaped yet
	Exits   uint64            // children that exited, with status 0 or another
	Signals map[string]uint64 // children that died of a signal, by its name: "SIGSEGV"
	Lost    uint64            // children whose status was lost

	LastForkTime  time.Duration // of the last fork: see Process.ForkTime
	WorstForkTime time.Duration
}

// Memory is what a child has in memory, in bytes.
type Memory struct {
	Rss          int // resident
	Pss          int // resident, each page divided by the number of processes that have it
	PrivateDirty int // written since the fork: copied, if it was not new
	Swap         int // swapped out
}

// PoolStats counts what a pool did.
type PoolStats struct {
	Calls    uint64 // calls that a child was asked for
	Failed   uint64 // of these, those that cost the child
	Restarts uint64 // children forked to replace lost ones
}
