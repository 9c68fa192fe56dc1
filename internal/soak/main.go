//go:build linux && cgo

// Command soak makes children that do all that children can do, at random and
// at once, for a given time. Then soak looks for what they have left behind,
// and prints how often it did each thing. Soak exits with status 1 at the first
// wrong answer.
package main

import (
	"flag"
	"fmt"
	"log"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

func main() {
	log.SetFlags(0)
	duration := flag.Duration("time", 2*time.Minute, "how long")
	workers := flag.Int("workers", 8, "goroutines at once")
	seed := flag.Uint64("seed", rand.Uint64(), "seed of the random choices")
	orphans := flag.Bool("orphans", false, "make a hundred children, and wait to be killed")
	flag.Parse()
	short = newMapping(4096)
	if *orphans {
		beParent()
	}
	for i := 1; i <= 255; i++ {
		sized[i] = newMapping(i)
	}
	r := rand.New(rand.NewPCG(*seed, 0))
	// The descriptors of the poller and the goroutine of os/signal stay open from here on.
	things["programs run by os/exec"](r)
	things["children stopped and continued"](r)
	before := leftNow()
	fmt.Println("seed", *seed)

	var err error
	pool, err = shm.NewPool(short, 3,
		&shm.PoolConfig{RestartRate: 10000, Fork: shm.ForkConfig{Lean: true}})
	check(err, nil)
	wall = newWalls()
	counts := run(*duration, *workers, *seed)
	check(pool.Close(), nil)
	wall.close()
	before.expectNoMore()
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		fmt.Printf("%8d %s\n", counts[what], what)
	}
	fmt.Printf("%+v\n", shm.ReadCounters())
}

// left is what children leave in their parent, if the library fails.
type left struct{ goroutines, descriptors int }

func leftNow() left { return left{runtime.NumGoroutine(), openDescriptors()} }

// expectNoMore ends the program if the children have left something, or if a
// child is left.
func (l left) expectNoMore() {
	now := leftNow()
	for range 1000 { // a goroutine that has returned may still be counted
		runtime.GC()
		now = leftNow()
		if now.goroutines <= l.goroutines && now.descriptors <= l.descriptors {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	// One that was about to end may have been counted before.
	expect("goroutines", max(now.goroutines, l.goroutines), l.goroutines)
	expect("descriptors", max(now.descriptors, l.descriptors), l.descriptors)
	expect("live children", int(shm.ReadCounters().Live), 0)
	if pid, _, err := shm.Waitpid(-1, unix.WNOHANG); err != unix.ECHILD {
		log.Fatalf("child %d is left, %v", pid, err)
	}
}

// run does things at random, and returns how often each.
func run(duration time.Duration, workers int, seed uint64) map[string]int {
	counts := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	end := time.Now().Add(duration)
	names := slices.Sorted(maps.Keys(things))
	for w := range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for time.Now().Before(end) {
				name := names[r.IntN(len(names))]
				if name == "a parent killed with 100 children" && r.IntN(50) != 0 {
					// Each of these takes a second.
					continue
				}
				things[name](r)
				mu.Lock()
				counts[name]++
				mu.Unlock()
			}
		}()
	}
	all.Wait()
	return counts
}

func openDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	check(err, nil)
	return len(entries) - 1
}
