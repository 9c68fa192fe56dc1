//go:build linux && cgo && livego

package live_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func contendsForALock(mu *sync.Mutex) {
	mu.Lock()
	runtime.Gosched()
	mu.Unlock()
}

// A goroutine that waits for a lock is in the lock's queue. A fork does not
// find it after another goroutine took it out, and before it was made ready: if
// the other is one of the runtime's, it goes on in the child.
func TestAForkFindsNoGoroutineHalfWoken(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	mus := make([]sync.Mutex, 4)
	for i := range 4 * len(mus) {
		defer repeatedly(func() { contendsForALock(&mus[i%len(mus)]) })()
	}
	for range 50 {
		p, err := live.Go(func() int {
			if waiting, queued := waitingInStacks(), waitingInQueues(); waiting != queued {
				fmt.Fprintf(os.Stderr, "%d goroutines wait for locks, and %d are in the queues\n",
					waiting, queued)
				return 1
			}
			return good
		})
		require.NoError(t, err)
		if !assert.Equal(t, good, wait(t, p)) {
			break
		}
	}
}

func waitingInStacks() (n int) {
	for trace := range strings.SplitSeq(string(stacks()), "\n\n") {
		if strings.Contains(trace, "[sync.Mutex.Lock") &&
			strings.Contains(trace, ".contendsForALock") {
			n++
		}
	}
	return n
}

func waitingInQueues() (n int) {
	all, err := live.Check()
	must(err)
	for _, f := range all {
		for _, g := range f.Waiting {
			if f.Kind == live.Lock && strings.HasSuffix(g.Function, ".contendsForALock") {
				n++
			}
		}
	}
	return n
}
