package shm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/procmaps"
)

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

type counting struct {
	sync.Mutex
	Counters
}

var counters counting

// ReadCounters returns the counters as they are now.
func ReadCounters() Counters {
	counters.Lock()
	defer counters.Unlock()
	c := counters.Counters
	c.Signals = make(map[string]uint64, len(counters.Signals))
	for name, n := range counters.Signals {
		c.Signals[name] = n
	}
	return c
}

// count counts a fork that was tried.
func (c *counting) count(p *Process, err error) {
	c.Lock()
	defer c.Unlock()
	if err != nil {
		c.Failed++
		return
	}
	c.Forks++
	c.Live++
	c.LastForkTime = p.forkTime
	c.WorstForkTime = max(c.WorstForkTime, p.forkTime)
}

// ended counts a child's end, err being what Wait returns.
func (c *counting) ended(err error) {
	c.Lock()
	defer c.Unlock()
	c.Live--
	var exit *ExitError
	switch {
	case err == nil:
		c.Exits++
	case !errors.As(err, &exit):
		c.Lost++
	case exit.Status.Signaled():
		if c.Signals == nil {
			c.Signals = map[string]uint64{}
		}
		c.Signals[signalName(exit.Status.Signal())]++
	default:
		c.Exits++
	}
}

func signalName(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("SIG%d", int(sig)) // a real-time signal
}

// Memory is what a child has in memory, in bytes.
type Memory struct {
	Rss          int // resident
	Pss          int // resident, each page divided by the number of processes that have it
	PrivateDirty int // written since the fork: copied, if it was not new
	Swap         int // swapped out
}

// Memory returns what the child has in memory now. PrivateDirty is what it, or its parent, wrote to since the
// fork, and that was so copied on write, with what it allocated itself. Once the child has ended the error is
// [os.ErrProcessDone]. See proc_pid_smaps(5), smaps_rollup.
func (p *Process) Memory() (Memory, error) {
	usage, err := procmaps.Rollup(p.pid)
	// The child is still there, so it was there all the time: the usage is not that of another process with its pid.
	if err := p.Signal(0); err != nil {
		return Memory{}, err
	}
	if errors.Is(err, unix.ESRCH) { // a zombie has no memory
		return Memory{}, os.ErrProcessDone
	}
	if err != nil {
		return Memory{}, err
	}
	return Memory{
		Rss:          clampInt(usage.Rss),
		Pss:          clampInt(usage.Pss),
		PrivateDirty: clampInt(usage.PrivateDirty),
		Swap:         clampInt(usage.Swap),
	}, nil
}
