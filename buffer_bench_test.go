//go:build linux && cgo

package shm_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"forkshm.example/shm"
)

// BenchmarkBuffer appends up to a size, 32 KiB at a time, in a process of its
// own each time, and takes its word for the time. peak/data is the most memory
// that it had, by the data's size; gc-ms the processor time of its garbage
// collection. SHM_BENCH_4GI=1 adds 4 GiB, of which bytes.Buffer needs 12.
func BenchmarkBuffer(b *testing.B) {
	program := appendLoop(b)
	sizes := []int{1 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30}
	if os.Getenv("SHM_BENCH_4GI") != "" {
		sizes = append(sizes, min(4<<30, math.MaxInt))
	}
	for _, size := range sizes {
		if size > most() && size <= 1<<30 {
			continue
		}
		for _, impl := range []string{"shm", "bytes.Buffer", "append"} {
			b.Run(fmt.Sprintf("impl=%s/size=%dMi", impl, size>>20), func(b *testing.B) {
				var total, gc, cycles, most float64
				for range b.N {
					out, err := exec.Command(program, impl, strconv.Itoa(size)).Output()
					require.NoError(b, err)
					var took, peak, gcTook, n float64
					_, err = fmt.Sscan(string(out), &took, &peak, &gcTook, &n)
					require.NoError(b, err)
					total, gc, cycles, most = total+took, gc+gcTook, cycles+n, max(most, peak)
				}
				n := float64(b.N)
				b.ReportMetric(total/n, "ns/op")
				b.ReportMetric(most/float64(size), "peak/data")
				b.ReportMetric(gc/n/1e6, "gc-ms/op")
				b.ReportMetric(cycles/n, "gc-cycles/op")
			})
		}
	}
}

var appendLoop = goBuildOnce("./internal/ctest/appendloop", buildSetting("-tags"))

// BenchmarkBufferWrite appends a few bytes, where there is room.
func BenchmarkBufferWrite(b *testing.B) {
	for _, size := range []int{1, 64, 4096, 64 << 10} {
		p := make([]byte, size)
		b.Run(fmt.Sprintf("impl=shm/size=%d", size), func(b *testing.B) {
			var buffer shm.Buffer
			defer buffer.Close()
			require.NoError(b, buffer.Grow(1<<20))
			for b.Loop() {
				if buffer.Len()+size > 1<<20 {
					buffer.Reset()
				}
				if _, err := buffer.Write(p); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("impl=bytes.Buffer/size=%d", size), func(b *testing.B) {
			var buffer bytes.Buffer
			buffer.Grow(1 << 20)
			for b.Loop() {
				if buffer.Len()+size > 1<<20 {
					buffer.Reset()
				}
				buffer.Write(p)
			}
		})
	}
}
