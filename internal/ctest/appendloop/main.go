//go:build linux && cgo

// Command appendloop appends SIZE bytes, 32 KiB at a time, to what IMPL says: a
// shm.Buffer, a bytes.Buffer or a slice. It prints how long that took, in
// nanoseconds; how much more memory the process had at its peak than before, in
// bytes; the processor time that garbage collection took, in nanoseconds; and
// its cycles. BenchmarkBuffer runs it, as a peak is that of a whole process.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"forkshm.example/shm"
)

func main() {
	size, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	chunk := bytes.Repeat([]byte{1}, 32<<10)
	var grown interface {
		Write(p []byte) (int, error)
		Len() int
	}
	switch os.Args[1] {
	case "shm":
		grown = new(shm.Buffer)
	case "bytes.Buffer":
		grown = new(bytes.Buffer)
	case "append":
		grown = new(slice)
	default:
		log.Fatal("neither shm, bytes.Buffer nor append")
	}

	before, start := status("VmRSS"), time.Now()
	for grown.Len() < size {
		if _, err := grown.Write(chunk); err != nil {
			log.Fatal(err)
		}
	}
	took := time.Since(start)
	peak := status("VmHWM") - before
	runtime.KeepAlive(grown)

	// The last collection is a part of the cost, and brings the figures up to date.
	runtime.GC()
	gc := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/gc/cycles/automatic:gc-cycles"}}
	metrics.Read(gc)
	fmt.Println(took.Nanoseconds(), peak, int64(gc[0].Value.Float64()*1e9), gc[1].Value.Uint64())
}

type slice []byte

func (s *slice) Write(p []byte) (int, error) {
	*s = append(*s, p...)
	return len(p), nil
}

func (s *slice) Len() int { return len(*s) }

// status returns a field of proc_pid_status(5) in bytes.
func status(field string) int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		log.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), field+":")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		log.Fatal(err)
	}
	return kib << 10
}
