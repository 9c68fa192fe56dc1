//go:build linux && cgo

// Command soak makes children that do all that children can do, at random and
// at once, for a given time. Then soak looks for what they have left behind,
// and prints how often it did each thing. Soak exits with status 1 at the first
// wrong answer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

var (
	background = context.Background()
	short      *shm.Mapping             // for children that ignore the length
	sized      = map[int]*shm.Mapping{} // by length, for children that take it as a number
	pool       *shm.Pool
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

var things = map[string]func(r *rand.Rand){
	"children that exited": func(r *rand.Rand) {
		status := 1 + r.IntN(255)
		var exit *shm.ExitError
		as(fork(r, ctest.Exit, sized[status]).Wait(background), &exit)
		expect("exit status", exit.Status.ExitStatus(), status)
	},
	"children that crashed": func(r *rand.Rand) {
		how := 1 + r.IntN(6)
		var exit *shm.ExitError
		as(fork(r, ctest.Crash, sized[how]).Wait(background), &exit)
		expect("signal", exit.Status.Signal(),
			[]unix.Signal{unix.SIGSEGV, unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGABRT,
				unix.SIGBUS}[how-1])
	},
	"children killed": func(r *rand.Rand) {
		p := fork(r, ctest.Pause, short)
		_, err := p.Memory()
		check(err, nil)
		check(p.Kill(), nil)
		var exit *shm.ExitError
		as(p.Wait(background), &exit)
		expect("signal", exit.Status.Signal(), unix.SIGKILL)
		check(p.Kill(), os.ErrProcessDone)
	},
	"children stopped and continued": func(r *rand.Rand) {
		p := fork(r, ctest.Pause, short)
		check(p.Signal(unix.SIGSTOP), nil)
		status, err := p.WaitChange(background)
		check(err, nil)
		expect("stopped", status.Stopped(), true)
		check(p.Signal(unix.SIGCONT), nil)
		status, err = p.WaitChange(background)
		check(err, nil)
		expect("continued", status.Continued(), true)
		check(p.Kill(), nil)
		_ = p.Wait(background)
	},
	"calls that missed their deadline": func(r *rand.Rand) {
		ctx, cancel := context.WithTimeout(background, time.Duration(r.IntN(5000))*time.Microsecond)
		defer cancel()
		check(shm.Call(ctx, ctest.Pause, short, config(r)), context.DeadlineExceeded)
	},
	"children that closed everything": func(r *rand.Rand) {
		check(shm.Call(background, ctest.CloseAll, short, config(r)), nil)
	},
	"children that forked": func(r *rand.Rand) {
		check(fork(r, ctest.Chain, sized[1+r.IntN(3)]).Wait(background), nil)
	},
	"children whose child crashed": func(r *rand.Rand) {
		var exit *shm.ExitError
		as(fork(r, ctest.Grief, short).Wait(background), &exit)
		expect("signal", exit.Status.Signal(), unix.SIGSEGV)
		expect("address", exit.Crash == nil || exit.Crash.Code <= 0, true)
	},
	"children in a sandbox": func(r *rand.Rand) {
		cfg := config(r)
		if cfg == nil {
			cfg = new(shm.ForkConfig)
		}
		cfg.Sandbox = &shm.Sandbox{OnDeny: shm.Deny(r.IntN(3)), Optional: true}
		check(shm.Call(background, ctest.Malloc, short, cfg), nil)
	},
	"children that were denied a call": func(r *rand.Rand) {
		cfg := &shm.ForkConfig{KillWithParent: r.IntN(2) == 0, Sandbox: &shm.Sandbox{Optional: true}}
		p, err := short.Fork(ctest.Threads, cfg)
		check(err, nil)
		var exit *shm.ExitError
		as(p.Wait(background), &exit)
		expect("denied", exit.Denied != nil, p.Sandboxed().Filter)
	},
	"children waited for by many": func(r *rand.Rand) {
		p := fork(r, ctest.Exit, sized[7])
		answers := make(chan error)
		for range 10 {
			go func() { answers <- p.Wait(background) }()
		}
		first := <-answers
		for range 9 {
			expect("answer", <-answers, first)
		}
	},
	"forks whose limits were refused": func(r *rand.Rand) {
		_, err := short.Fork(ctest.Exit,
			&shm.ForkConfig{Lean: r.IntN(2) == 0, Limits: []shm.Limit{{Resource: 99}}})
		check(err, unix.EINVAL)
	},
	"children forgotten": func(r *rand.Rand) { fork(r, ctest.Increment, short) },
	"pool: calls": func(r *rand.Rand) {
		_, err := pool.Call(background, ctest.Count, 0, 4)
		check(err, nil)
	},
	"pool: long calls": func(r *rand.Rand) {
		_, err := pool.Call(background, ctest.Sleep, 0, 1+r.IntN(5))
		check(err, nil)
	},
	"pool: crashes": func(r *rand.Rand) {
		_, err := pool.Call(background, ctest.Crash, 0, 1+r.IntN(6))
		var exit *shm.ExitError
		as(err, &exit)
	},
	"pool: missed deadlines": func(r *rand.Rand) {
		ctx, cancel := context.WithTimeout(background, time.Duration(r.IntN(5000))*time.Microsecond)
		defer cancel()
		_, err := pool.Call(ctx, ctest.Pause, 0, 0)
		check(err, context.DeadlineExceeded)
	},
	"programs run by os/exec": func(r *rand.Rand) { check(exec.Command("true").Run(), nil) },
	"heaps grown and collected": func(r *rand.Rand) {
		held := make([][]byte, 0, 64)
		for range cap(held) {
			held = append(held, make([]byte, 1<<r.IntN(20)))
		}
		for i, b := range held {
			for j := range b {
				b[j] = byte(i)
			}
		}
		runtime.GC()
		for i, b := range held {
			for j := range b {
				expect("the heap", b[j], byte(i))
			}
		}
	},
	"a parent killed with 100 children": func(r *rand.Rand) {
		self, err := os.Executable()
		check(err, nil)
		cmd := exec.Command(self, "-orphans")
		ready, err := cmd.StdoutPipe() // the children hold it too
		check(err, nil)
		check(cmd.Start(), nil)
		_, err = io.ReadFull(ready, make([]byte, 6))
		check(err, nil)
		check(cmd.Process.Kill(), nil)
		_, err = io.ReadAll(ready) // ends with the last of them
		check(err, nil)
		_ = cmd.Wait()
	},
}

func beParent() {
	for range 100 {
		_, err := short.Fork(ctest.Pause, &shm.ForkConfig{KillWithParent: true})
		check(err, nil)
	}
	fmt.Println("ready")
	select {}
}

// config returns one at random. All allow what children do here.
func config(r *rand.Rand) *shm.ForkConfig {
	if r.IntN(8) == 0 {
		return nil
	}
	yes := func() bool { return r.IntN(2) == 0 }
	cfg := &shm.ForkConfig{KillWithParent: yes(), Lean: yes(), CloseFDs: yes(),
		NoCrashReport: yes(), Nice: r.IntN(3)}
	if cfg.CloseFDs {
		cfg.KeepFDs = []int{2}
	}
	if yes() {
		cfg.Limits = []shm.Limit{{Resource: unix.RLIMIT_CORE}}
	}
	return cfg
}

func fork(r *rand.Rand, child shm.ChildFunc, m *shm.Mapping) *shm.Process {
	p, err := m.Fork(child, config(r))
	check(err, nil)
	return p
}

func newMapping(length int) *shm.Mapping {
	m, err := shm.Map(shm.Shared, length, nil)
	check(err, nil)
	return m
}

func openDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	check(err, nil)
	return len(entries) - 1
}

func check(err, want error) {
	if !errors.Is(err, want) {
		fail(fmt.Sprintf("%v, must be %v", err, want))
	}
}

func as(err error, target **shm.ExitError) {
	if !errors.As(err, target) {
		fail(fmt.Sprintf("%v, must be how a child ended", err))
	}
}

func expect[T comparable](what string, got, want T) {
	if got != want {
		fail(fmt.Sprintf("%s: %v, must be %v", what, got, want))
	}
}

func fail(why string) {
	_, file, line, _ := runtime.Caller(2)
	log.Fatalf("%s:%d: %s", file, line, why)
}
