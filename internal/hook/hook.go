// Package hook is how package live has package shm look after the children that it forks. Package shm
// sets what is here; its own types would be an import cycle's beginning.
package hook

import (
	"sync"
	"time"
)

// NewProcess forks by the function it is given, and returns a *shm.Process.
var NewProcess func(fork func() (pid int, held time.Duration, err error)) (process any, err error)

// ProcessToken returns a number, never 0, that tells this process from all those that it was forked from. A
// process id does not: see pid_namespaces(7).
var ProcessToken = func() uint64 { return 1 }

// Forked is called in a live fork's child once its memory is whole, before any of the program's code.
var Forked = func() {}

// Locks are those of package shm that are the whole program's.
var Locks []*sync.Mutex

// GoHeap returns where the Go heap is, in addresses from each first one up to the second. It is nil without cgo.
var GoHeap func() [][2]uintptr
