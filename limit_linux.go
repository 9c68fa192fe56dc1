package shm

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Limit is a resource limit of setrlimit(2).
type Limit struct {
	Resource int // unix.RLIMIT_*
	Rlimit   unix.Rlimit
}

// setLimits copies the limits into args.
func (args *forkArgs) setLimits(limits []Limit) error {
	if len(limits) > maxLimits {
		return fmt.Errorf("ForkConfig.Limits has %d limits, at most %d are possible: %w",
			len(limits), maxLimits, unix.EINVAL)
	}
	for i, l := range limits {
		if l.Resource == unix.RLIMIT_AS && args.memoryLimit != 0 {
			return fmt.Errorf("ForkConfig.Limits[%d] is RLIMIT_AS, and MemoryLimit is set: %w",
				i, unix.EINVAL)
		}
		args.limits[i] = forkLimit{int64(l.Resource), uint64(l.Rlimit.Cur), uint64(l.Rlimit.Max)}
		if int(int32(l.Resource)) != l.Resource {
			return fmt.Errorf("ForkConfig.Limits[%d] (%v): setrlimit(2) knows no such resource: %w",
				i, args.limits[i], unix.EINVAL)
		}
	}
	args.limitsCount = int32(len(limits))
	return nil
}
