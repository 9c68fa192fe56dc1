// Life is the life of a mapping by this library: what c/life.c does in C.
//
//	life default|anonymous|devzero|memfd private|shared size rounds
//
// The technique default is what the program was built for, by the build tag
// devzero or without. With 0 rounds the program maps, touches, forks, waits and
// unmaps once, and prints nothing.
package main

/*
#include <stddef.h>
#include <signal.h>

static int work(void *at, size_t n) { (void)n; ((volatile char *)at)[1] = 5; return 0; }
static int crash(void *at, size_t n) { (void)at; (void)n; raise(SIGSEGV); return 0; }
static void *work_address(void) { return (void *)work; }
static void *crash_address(void) { return (void *)crash; }
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

var steps = []string{"map", "touch", "fork", "child", "access", "grow", "move", "unmap"}

type life struct {
	cfg     shm.Config
	sharing shm.Sharing
	size    int
	took    map[string][]float64
	faults  map[string]float64
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: life technique sharing size rounds")
		os.Exit(2)
	}
	l := life{took: map[string][]float64{}, faults: map[string]float64{}}
	l.cfg.Technique = map[string]shm.Technique{"anonymous": shm.Anonymous, "devzero": shm.DevZero,
		"memfd": shm.Memfd}[os.Args[1]]
	l.sharing = map[string]shm.Sharing{"private": shm.Private, "shared": shm.Shared}[os.Args[2]]
	l.size, _ = strconv.Atoi(os.Args[3])
	rounds, _ := strconv.Atoi(os.Args[4])
	if rounds == 0 {
		l.brief()
		return
	}
	l.warmUp()
	sum := 0
	for range rounds {
		sum += l.live()
	}
	fmt.Println("result", sum/rounds)
	fmt.Println("note default", shm.DefaultTechnique())
	fmt.Println("note grow", map[bool]string{true: "moves pages", false: "copies"}[l.resizes()])
	fmt.Println("note crash", l.crash())
	for _, s := range steps {
		slices.Sort(l.took[s])
		fmt.Printf("%s %.0f %.2f\n", s, l.took[s][rounds/2], l.faults[s]/float64(rounds))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "life:", err)
		os.Exit(1)
	}
}

// step takes what a step costs.
func (l *life) step(name string, do func()) {
	before := faults()
	start := time.Now()
	do()
	l.done(name, start, before)
}

func (l *life) done(name string, start time.Time, before int64) {
	l.took[name] = append(l.took[name], float64(time.Since(start).Nanoseconds()))
	l.faults[name] += float64(faults() - before)
}

func faults() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u.Minflt + u.Majflt
}

// resizes says whether the memory can grow shared, or need not.
func (l *life) resizes() bool { return l.sharing == shm.Private || l.cfg.Technique == shm.Memfd }

func (l *life) live() (sum int) {
	var m *shm.Mapping
	var err error
	l.step("map", func() { m, err = shm.Map(l.sharing, l.size, &l.cfg) })
	check(err)
	page := os.Getpagesize()
	bytes := m.Bytes()
	l.step("touch", func() {
		for i := 0; i < len(bytes); i += page {
			bytes[i] = 1
		}
	})
	start, before := time.Now(), faults()
	p, err := m.Fork(shm.ChildFunc(C.work_address()), nil)
	check(err)
	l.done("fork", start, before)
	check(p.Wait(context.Background()))
	l.done("child", start, before)
	sum += int(bytes[1])
	words, err := shm.Slice[uint64](m, 0, min(l.size, 64<<10)/8)
	check(err)
	l.step("access", func() {
		total := uint64(0)
		for _, w := range words {
			total += w
		}
		sum += int(total & 0xff)
	})
	l.step("grow", func() { m = l.grow(m) })
	bytes = m.Bytes()
	bytes[2*l.size-1] = 2
	sum += int(bytes[2*l.size-1]) + int(bytes[l.size-page])
	place, err := shm.Map(shm.Private, 2*l.size, &shm.Config{Technique: shm.Anonymous})
	check(err)
	l.step("move", func() { check(m.MoveTo(place)) })
	sum += int(m.Bytes()[2*l.size-1])
	l.step("unmap", func() { check(m.Close()) })
	return sum
}

// warmUp has a first life, that is not counted: it finds out what is found out
// once. A small one does.
func (l *life) warmUp() {
	whole := l.size
	l.size = min(l.size, 1<<20)
	l.live()
	l.size = whole
	clear(l.took)
	clear(l.faults)
}

// brief makes what a trace of the system calls is to show.
func (l *life) brief() {
	m, err := shm.Map(l.sharing, l.size, &l.cfg)
	check(err)
	m.Bytes()[0] = 1
	p, err := m.Fork(shm.ChildFunc(C.work_address()), nil)
	check(err)
	check(p.Wait(context.Background()))
	check(m.Close())
}

func (l *life) grow(m *shm.Mapping) *shm.Mapping {
	if l.resizes() {
		check(m.Resize(2*l.size, shm.MayMove))
		return m
	}
	larger, err := shm.Map(l.sharing, 2*l.size, &l.cfg)
	check(err)
	copy(larger.Bytes(), m.Bytes())
	check(m.Close())
	return larger
}

// crash says what the parent of a child that crashes is told.
func (l *life) crash() string {
	m, err := shm.Map(shm.Shared, 4096, nil)
	check(err)
	defer m.Close()
	var exit *shm.ExitError
	if err := shm.Call(context.Background(), shm.ChildFunc(C.crash_address()), m,
		nil); errors.As(err, &exit) && exit.Crash != nil {
		return "the signal and the place"
	}
	return "nothing"
}
