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

func (c *costs) done(step string, start time.Time, before int64) {
	c.took[step] = append(c.took[step], float64(time.Since(start).Nanoseconds()))
	c.faults[step] += float64(faults() - before)
}

func (l *Library) live(c *costs, size int) (sum int) {
	before, start := faults(), time.Now()
	fd, err := unix.MemfdCreate("life", unix.MFD_CLOEXEC)
	check(err)
	f := os.NewFile(uintptr(fd), "memfd")
	check(f.Truncate(int64(size)))
	m, err := l.Map(f, size)
	check(err)
	c.done("map", start, before)
	page := os.Getpagesize()
	before, start = faults(), time.Now()
	for i := 0; i < size; i += page {
		m[i] = 1
	}
	c.done("touch", start, before)
	before, start = faults(), time.Now()
	cmd := exec.Command("/proc/self/exe", child, strconv.Itoa(size))
	cmd.ExtraFiles = []*os.File{f}
	check(cmd.Start())
	c.done("fork", start, before)
	check(cmd.Wait())
	c.done("child", start, before)
	sum += int(m[1])
	before, start = faults(), time.Now()
	total := uint64(0)
	for _, w := range unsafe.Slice((*uint64)(unsafe.Pointer(&m[0])), min(size, 64<<10)/8) {
		total += w
	}
	sum += int(total & 0xff)
	c.done("access", start, before)
	before, start = faults(), time.Now()
	check(f.Truncate(int64(2 * size)))
	m, err = l.Grow(f, m, 2*size)
	check(err)
	c.done("grow", start, before)
	m[2*size-1] = 2
	sum += 2*int(m[2*size-1]) + int(m[size-page])
	before, start = faults(), time.Now()
	check(l.Unmap(m))
	check(f.Close())
	c.done("unmap", start, before)
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
