// Package execlife is the life of a memfd mapping in plain Go, which cannot
// fork: the child is this program started anew (os/exec), which is handed the
// memfd and maps it. How memory is mapped is for the program to say.
//
//	life memfd shared size rounds
package execlife

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var steps = []string{"map", "touch", "fork", "child", "access", "grow", "unmap"}

// Library is how memory is mapped.
type Library struct {
	Map   func(f *os.File, length int) ([]byte, error)
	Grow  func(f *os.File, mapped []byte, length int) ([]byte, error) // f is that long already
	Unmap func(mapped []byte) error
	Grows string // "moves pages" or "maps anew"
}

const child = "child"

// Main is a program's main function.
func Main(l Library) {
	if len(os.Args) == 3 && os.Args[1] == child {
		length, _ := strconv.Atoi(os.Args[2])
		if length == 0 {
			_ = unix.Kill(os.Getpid(), unix.SIGSEGV)
			select {}
		}
		m, err := l.Map(os.NewFile(3, "memfd"), length)
		check(err)
		m[1] = 5
		return
	}
	size, _ := strconv.Atoi(os.Args[3])
	rounds, _ := strconv.Atoi(os.Args[4])
	c := &costs{map[string][]float64{}, map[string]float64{}}
	l.live(c, size) // the first one warms up, and is not counted
	clear(c.took)
	clear(c.faults)
	sum := 0
	for range rounds {
		sum += l.live(c, size)
	}
	fmt.Println("result", sum/rounds)
	fmt.Println("note grow", l.Grows)
	fmt.Println("note crash", crash())
	for _, s := range steps {
		slices.Sort(c.took[s])
		fmt.Printf("%s %.0f %.2f\n", s, c.took[s][rounds/2], c.faults[s]/float64(rounds))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "life:", err)
		os.Exit(1)
	}
}

type costs struct {
	took   map[string][]float64
	faults map[string]float64
}

func faults() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u.Minflt + u.Majflt
}

// measure adds what a step takes.
func (c *costs) measure(step string, do func()) {
	before, start := faults(), time.Now()
	do()
	c.done(step, start, before)
}

func (c *costs) done(step string, start time.Time, before int64) {
	c.took[step] = append(c.took[step], float64(time.Since(start).Nanoseconds()))
	c.faults[step] += float64(faults() - before)
}

// forkAndWait measures the start of a child, and the time until the child has
// ended.
func (c *costs) forkAndWait(f *os.File, size int) {
	before, start := faults(), time.Now()
	cmd := exec.Command("/proc/self/exe", child, strconv.Itoa(size))
	cmd.ExtraFiles = []*os.File{f}
	check(cmd.Start())
	c.done("fork", start, before)
	check(cmd.Wait())
	c.done("child", start, before)
}

func total(p []byte) (sum uint64) {
	for _, w := range unsafe.Slice((*uint64)(unsafe.Pointer(&p[0])), len(p)/8) {
		sum += w
	}
	return sum
}

// live goes through all steps once, and returns a sum of what memory held.
func (l *Library) live(c *costs, size int) (sum int) {
	var f *os.File
	var m []byte
	c.measure("map", func() {
		fd, err := unix.MemfdCreate("life", unix.MFD_CLOEXEC)
		check(err)
		f = os.NewFile(uintptr(fd), "memfd")
		check(f.Truncate(int64(size)))
		m, err = l.Map(f, size)
		check(err)
	})
	page := os.Getpagesize()
	c.measure("touch", func() {
		for i := 0; i < size; i += page {
			m[i] = 1
		}
	})
	c.forkAndWait(f, size)
	sum += int(m[1])
	c.measure("access", func() { sum += int(total(m[:min(size, 64<<10)]) & 0xff) })
	c.measure("grow", func() {
		check(f.Truncate(int64(2 * size)))
		var err error
		m, err = l.Grow(f, m, 2*size)
		check(err)
	})
	m[2*size-1] = 2
	sum += 2*int(m[2*size-1]) + int(m[size-page])
	c.measure("unmap", func() {
		check(l.Unmap(m))
		check(f.Close())
	})
	return sum
}

// crash says what the parent of a child that crashes is told.
func crash() string {
	err := exec.Command("/proc/self/exe", child, "0").Run()
	if exit, ok := err.(*exec.ExitError); ok &&
		exit.ProcessState.String() == "signal: segmentation fault" {
		return "the signal"
	}
	return "a Go traceback, exit status 2"
}
