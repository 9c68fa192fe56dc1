package shm

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
)

// counting is the program's counters.
type counting struct {
	sync.Mutex
	Counters
}

var counters counting

func init() { hook.Locks = append(hook.Locks, &counters.Mutex) }

// ReadCounters returns the current values of the counters.
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

// forked counts a new child.
func (c *counting) forked(forkTime time.Duration) {
	c.Lock()
	defer c.Unlock()
	c.Forks++
	c.Live++
	c.LastForkTime = forkTime
	c.WorstForkTime = max(c.WorstForkTime, forkTime)
}

// failed counts a fork that failed.
func (c *counting) failed() {
	c.Lock()
	defer c.Unlock()
	c.Failed++
}

// ended counts the end of a child. err is the result of Wait.
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

// signalName returns a name like "SIGSEGV".
func signalName(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("SIG%d", int(sig)) // a real-time signal
}
