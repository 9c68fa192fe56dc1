//go:build !linux

package shm

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// What remap_linux.go and fork_linux.go declare, for programs that are also built elsewhere. There
// Map always fails, so none of this is ever reached with a mapping or a child.

type waitStatus = syscall.WaitStatus

// Move says whether [Mapping.Resize] may give the mapping another address.
type Move int

const (
	InPlace Move = iota
	MayMove
)

// Resize returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Resize(length int, move Move) error { return &Error{"resize", length, errNoShim} }

// MoveTo returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) MoveTo(dst *Mapping) error { return &Error{"move", 0, errNoShim} }

// ForkConfig holds what [Mapping.Fork] is asked for beyond the child's function.
type ForkConfig struct {
	KillWithParent bool
	Lean           bool
	Limits         []Limit
}

// Limit is a resource limit, as setrlimit(2) takes it.
type Limit struct {
	Resource int
	Rlimit   struct{ Cur, Max uint64 }
}

// Process is a child that [Mapping.Fork] made.
type Process struct{}

// Fork returns an error that wraps [errors.ErrUnsupported].
func (m *Mapping) Fork(child ChildFunc, cfg *ForkConfig) (*Process, error) {
	return nil, &Error{"fork", 0, errNoShim}
}

// Pid returns 0.
func (p *Process) Pid() int { return 0 }

// ForkTime returns 0.
func (p *Process) ForkTime() time.Duration { return 0 }

// Wait returns an error that wraps [errors.ErrUnsupported].
func (p *Process) Wait(ctx context.Context) error { return errNoShim }

// Signal returns [os.ErrProcessDone].
func (p *Process) Signal(sig syscall.Signal) error { return os.ErrProcessDone }

// Kill returns [os.ErrProcessDone].
func (p *Process) Kill() error { return os.ErrProcessDone }

// ExitError says how a child ended that did not exit with status 0.
type ExitError struct {
	Pid    int
	Status syscall.WaitStatus
}

func (e *ExitError) Error() string { return fmt.Sprintf("child %d: %v", e.Pid, e.Status) }
