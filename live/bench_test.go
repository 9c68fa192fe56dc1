//go:build linux && cgo && livego

package live_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkFork forks beside a heap that is touched, and waits for the child,
// in a process that has nothing else. pause-ns is how long the caller of fork
// waited. first-ns is the time from there to the child's first code, which in
// Go is another goroutine's. The peers are C with as much memory from malloc,
// Python's os.fork, and the same Go program, started by os/exec without that
// memory.
func BenchmarkFork(b *testing.B) {
	self, err := os.Executable()
	require.NoError(b, err)
	inC := filepath.Join(b.TempDir(), "fork")
	out, err := exec.Command("cc", "-O2", "-o", inC, "testdata/fork.c").CombinedOutput()
	require.NoError(b, err, "%s", out)
	impls := []struct {
		name    string
		command []string
		env     string
	}{
		{"live", []string{self}, ""},
		{"live,huge", []string{self}, "collapse"},
		{"c", []string{inC}, ""},
		{"exec", []string{self}, "exec"},
	}
	if python, err := exec.LookPath("python3"); err == nil {
		impls = append(impls, struct {
			name    string
			command []string
			env     string
		}{"python", []string{python, "testdata/fork.py"}, ""})
	}
	for _, mib := range []int{0, 64, 1024} {
		if testing.Short() && mib > 64 {
			continue
		}
		for _, impl := range impls {
			b.Run(fmt.Sprintf("impl=%s/heap=%dMi", impl.name, mib), func(b *testing.B) {
				cmd := exec.Command(impl.command[0],
					append(impl.command[1:], strconv.Itoa(b.N), strconv.Itoa(mib))...)
				cmd.Env = append(os.Environ(), benchmarked+"="+impl.name+impl.env)
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				require.NoError(b, err)
				var pause, first, total float64
				_, err = fmt.Sscan(string(out), &pause, &first, &total)
				require.NoError(b, err)
				b.ReportMetric(pause, "pause-ns/op")
				b.ReportMetric(first, "first-ns/op")
				b.ReportMetric(total, "ns/op")
			})
		}
	}
}

const benchmarked, started = "LIVE_BENCH", "LIVE_BENCH_STARTED"

func init() {
	if os.Getenv(started) != "" {
		done := make(chan bool)
		go func() { fmt.Println(monotonic()); close(done) }()
		<-done
		os.Exit(0)
	}
	if impl := os.Getenv(benchmarked); impl != "" {
		benchmark(impl, must2(strconv.Atoi(os.Args[1])), must2(strconv.Atoi(os.Args[2]))<<20)
		os.Exit(0)
	}
}

func must2[T any](v T, err error) T {
	must(err)
	return v
}

func monotonic() int64 {
	var ts unix.Timespec
	must(unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return ts.Nano()
}

func benchmark(impl string, count, size int) {
	heap := bytes.Repeat([]byte{1}, size)
	runtime.GC()
	m := must2(shm.Map(shm.Shared, 8, nil))
	begun := must2(shm.At[int64](m, 0))
	var pause, first, total int64
	for range count {
		if impl == "live,hugecollapse" && size > 0 {
			must2(live.CollapseHeap())
		}
		start := monotonic()
		if impl == "execexec" {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), started+"=1")
			out := new(bytes.Buffer)
			cmd.Stdout = out
			must(cmd.Start())
			pause += monotonic() - start
			must(cmd.Wait())
			total += monotonic() - start
			var at int64
			must2(fmt.Sscan(out.String(), &at))
			first += at - start
			continue
		}
		p := must2(live.Go(func() int {
			done := make(chan bool)
			go func() { *begun = monotonic(); close(done) }()
			<-done
			return 0
		}))
		pause += int64(p.ForkTime())
		must(p.Wait(context.Background()))
		total += monotonic() - start
		first += *begun - start
	}
	runtime.KeepAlive(heap)
	fmt.Println(pause/int64(count), first/int64(count), total/int64(count))
}
