// Package hook connects packages live, shm and shared. Package live forks
// children, package shm waits for them, and package shared has locks that
// children hold. The variables have no types of package shm, to avoid an import
// cycle.
//
// Package shm sets the variables of this file, and package live uses them.
// Tests set KillTimeout.
package hook

import (
	"embed"
	"sync"
	"time"
)

// NewProcess calls fork, and returns a *shm.Process for the child. fork passes
// owner to SetOwner in the child.
var NewProcess func(fork func(owner uint32) (pid int, forkTime time.Duration, err error)) (
	process any, err error)

// ProcessToken returns a number, never 0, that differs from the numbers of all
// processes that this process was forked from. Process ids can be the same: see
// pid_namespaces(7).
var ProcessToken = func() uint64 { return 1 }

// Forked is called in a live fork's child when the child's memory is complete,
// and before any of the program's code runs.
var Forked = func() {}

// Threads is how many threads package shm has in C, which never call Go. After
// Forked it is the child's number.
var Threads int

// Locks are the locks of package shm's global variables.
var Locks []*sync.Mutex

// GoHeap returns the address ranges of the Go heap, each from the first address
// up to the second. GoHeap is nil without cgo.
var GoHeap func() [][2]uintptr

// KillTimeout is how long Call and pools wait for the end of a child that was
// sent SIGKILL. The kernel usually needs microseconds, and some milliseconds
// for each GiB of the child's memory. Tests wait longer, because a child may
// get no processor for a second on a busy machine.
var KillTimeout = time.Second

// Headers are the C headers that programs include, in csrc.
var Headers embed.FS
