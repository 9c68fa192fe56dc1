//go:build !linux

package shm

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// This file declares the names of the Linux files for other systems, so that programs that use the
// package also compile there. On these systems Map always fails, and so no method is called with a
// mapping or a child that exists.

type waitStatus = syscall.WaitStatus

// memory stands for the memory of a Mapping. There is none on these systems.
type memory struct {
	addr   unsafe.Pointer
	length int
	huge   HugePages
}

func newMemory(Technique, Sharing, int, *Config) (*memory, error) { return nil, errNoShim }
func (mem *memory) unmap() error                                  { return errNoShim }
func (mem *memory) closeObject()                                  {}

// MapFile returns an error that wraps [errors.ErrUnsupported].
func MapFile(f *os.File) (*Mapping, error) { return nil, &Error{"map file", 0, errNoShim} }

// Protect returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Protect(prot Protection) error { return &Error{"protect", 0, errNoShim} }

// Advise returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Advise(off, length int, advice int) error {
	return &Error{"advise", length, errNoShim}
}

// Lock returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Lock() error { return &Error{"lock", 0, errNoShim} }

// Unlock returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Unlock() error { return &Error{"unlock", 0, errNoShim} }

// Stats returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Stats() (Stats, error) { return Stats{}, &Error{"stat", 0, errNoShim} }

// ObjectLen returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) ObjectLen() (int, error) { return 0, &Error{"object length", 0, errNoShim} }

// File returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) File() (*os.File, error) { return nil, &Error{"file", 0, errNoShim} }

// Seal returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Seal(seals int) error { return &Error{"seal", 0, errNoShim} }

// Truncate returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Truncate(length int) error { return &Error{"truncate", length, errNoShim} }

// Detach returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Detach() (*Mapping, error) { return nil, &Error{"detach", 0, errNoShim} }

// Swap returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Swap(other *Mapping) error { return &Error{"swap", 0, errNoShim} }

// SwapPages returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) SwapPages(off int, other *Mapping, otherOff, length int) error {
	return &Error{"swap", length, errNoShim}
}

// Resize returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Resize(length int, move Move) error { return &Error{"resize", length, errNoShim} }

// MoveTo returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) MoveTo(dst *Mapping) error { return &Error{"move", 0, errNoShim} }

// Limit is a resource limit of setrlimit(2).
type Limit struct {
	Resource int
	Rlimit   struct{ Cur, Max uint64 }
}

// ForkServer makes children of a Shared mapping.
type ForkServer struct{}

// ForkServer returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) ForkServer(cfg *ForkServerConfig) (*ForkServer, error) {
	return nil, &Error{"fork server", 0, errNoShim}
}

// Fork returns an error that wraps [errors.ErrUnsupported].
func (s *ForkServer) Fork(child ChildFunc) (*Process, error) {
	return nil, &Error{"fork", 0, errNoShim}
}

// Call returns an error that wraps [errors.ErrUnsupported].
func (s *ForkServer) Call(ctx context.Context, child ChildFunc) error {
	return &Error{"call", 0, errNoShim}
}

// Close returns an error that wraps [errors.ErrUnsupported].
func (s *ForkServer) Close() error { return &Error{"close", 0, errNoShim} }

// Process is a child that [Mapping.Fork] made.
type Process struct{}

// Fork returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Fork(child ChildFunc, cfg *ForkConfig) (*Process, error) {
	return nil, &Error{"fork", 0, errNoShim}
}

// Call returns an error that wraps [errors.ErrUnsupported].
func Call(ctx context.Context, child ChildFunc, m *Mapping, cfg *ForkConfig) error {
	return &Error{"call", 0, errNoShim}
}

// Pid returns 0.
func (p *Process) Pid() int { return 0 }

// ForkTime returns 0.
func (p *Process) ForkTime() time.Duration { return 0 }

// Sandboxed returns the zero value.
func (p *Process) Sandboxed() Sandboxed { return Sandboxed{} }

// Wait returns an error that wraps [errors.ErrUnsupported].
func (p *Process) Wait(ctx context.Context) error { return errNoShim }

// WaitChange returns an error that wraps [errors.ErrUnsupported].
func (p *Process) WaitChange(ctx context.Context) (status syscall.WaitStatus, err error) {
	return status, errNoShim
}

// Usage returns nil.
func (p *Process) Usage() *syscall.Rusage { return nil }

// Memory returns an error that wraps [errors.ErrUnsupported].
func (p *Process) Memory() (Memory, error) { return Memory{}, errNoShim }

// Signal returns [os.ErrProcessDone].
func (p *Process) Signal(sig syscall.Signal) error { return os.ErrProcessDone }

// Kill returns [os.ErrProcessDone].
func (p *Process) Kill() error { return os.ErrProcessDone }

// ExitError says how a child ended, if its exit status is not 0.
type ExitError struct {
	Pid      int
	Status   syscall.WaitStatus
	Crash    *Crash
	CalledGo bool
	Denied   *Denied
}

func (e *ExitError) Error() string { return fmt.Sprintf("child %d: %v", e.Pid, e.Status) }

// ReadCounters returns zero counts.
func ReadCounters() Counters { return Counters{} }

// Pool is a set of children of one Shared mapping that serve calls.
type Pool struct{}

// NewPool returns an error that wraps [errors.ErrUnsupported].
func NewPool(m *Mapping, n int, cfg *PoolConfig) (*Pool, error) {
	return nil, &Error{"pool", 0, errNoShim}
}

// Call returns an error that wraps [errors.ErrUnsupported].
func (p *Pool) Call(ctx context.Context, child ChildFunc, off, length int) (int, error) {
	return 0, &Error{"call", length, errNoShim}
}

// Do returns an error that wraps [errors.ErrUnsupported].
func (p *Pool) Do(ctx context.Context, work DoFunc, in []byte) ([]byte, error) {
	return nil, &Error{"do", len(in), errNoShim}
}

// DoView returns an error that wraps [errors.ErrUnsupported].
func (p *Pool) DoView(ctx context.Context, work DoFunc, in []byte, view func(out []byte) error) error {
	return &Error{"do", len(in), errNoShim}
}

// Drain returns an error that wraps [errors.ErrUnsupported].
func (p *Pool) Drain(ctx context.Context) error { return &Error{"drain", 0, errNoShim} }

// Stats returns zero counts.
func (p *Pool) Stats() PoolStats { return PoolStats{} }

// Close returns an error that wraps [errors.ErrUnsupported].
func (p *Pool) Close() error { return &Error{"close", 0, errNoShim} }
