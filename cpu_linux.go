package shm

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// cpuBudget is the processor time that a child may use for one call. The kernel
// counts that time: the child cannot change it.
type cpuBudget struct {
	child *process // nil if there is no limit
	end   time.Duration
}

// minCPUInterval is the shortest time between two looks at a child's processor
// time.
const minCPUInterval = time.Millisecond

// newCPUBudget returns the budget of a call that begins now. A limit of 0 is
// none.
func (p *process) newCPUBudget(limit time.Duration) cpuBudget {
	if limit == 0 {
		return cpuBudget{}
	}
	used, _ := p.cpuTime() // fails for a child that has ended
	return cpuBudget{p, used + limit}
}

// left returns the processor time that is left. It is not positive if the budget
// is used up.
func (b cpuBudget) left() time.Duration {
	if b.child == nil {
		return math.MaxInt64
	}
	used, err := b.child.cpuTime()
	if err != nil { // the child has ended
		return math.MaxInt64
	}
	return b.end - used
}

// interval returns when to look again, at most d from now. A child with threads
// can use the time of all processors.
func (b cpuBudget) interval(left, d time.Duration) time.Duration {
	if b.child == nil {
		return d
	}
	return min(d, max(left/time.Duration(runtime.NumCPU()), minCPUInterval))
}

// cpuTime returns the processor time that the child has used, without that of its
// own children. See clock_getcpuclockid(3).
func (p *process) cpuTime() (used time.Duration, err error) {
	useErr := p.handle.usePid(func(childID) { used, err = cpuTimeOf(p.pid) })
	return used, errors.Join(useErr, err)
}

// cpuTimeOf returns the processor time of a process that is not reaped meanwhile.
func cpuTimeOf(pid int) (time.Duration, error) {
	const all = 2 // CPUCLOCK_SCHED, of all threads
	var t unix.Timespec
	if err := unix.ClockGettime(^int32(pid)<<3|all, &t); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(t.Nano()), nil
}

// checkCPUTime returns an error for a PoolConfig.CPUTime that cannot be had.
func checkCPUTime(limit time.Duration) error {
	if limit < 0 {
		return fmt.Errorf("CPUTime is %v, must not be negative: %w", limit, unix.EINVAL)
	}
	if limit == 0 {
		return nil
	}
	if _, err := cpuTimeOf(os.Getpid()); err != nil {
		return fmt.Errorf("CPUTime: this kernel does not tell a child's processor time: %w: %w",
			err, errors.ErrUnsupported)
	}
	return nil
}
