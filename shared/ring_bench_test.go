//go:build linux && cgo

package shared_test

import (
	"testing"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/require"
)

// newRingBench returns memory for a benchmark in C, and its two rings.
func newRingBench(b *testing.B, length, size int) (*shm.Mapping, *sharedc.RingBench, [2]*shared.Ring) {
	m := newMapping(b, sharedc.RingBenchOffset+2*size, shm.DefaultTechnique())
	bench, err := shm.At[sharedc.RingBench](m, 0)
	require.NoError(b, err)
	bench.Rounds, bench.Length, bench.Size = uint32(b.N), uint32(length), uint64(size)
	var rings [2]*shared.Ring
	for i := range rings {
		rings[i], err = shared.NewRing(m, sharedc.RingBenchOffset+i*size, size)
		require.NoError(b, err)
	}
	b.Cleanup(func() {
		for _, r := range rings {
			_, _ = r.CloseRead(), r.CloseWrite()
		}
	})
	return m, bench, rings
}

const benchPage = 4096

func writePages(p []byte) {
	for at := 0; at < len(p); at += benchPage {
		p[at] = 1
	}
}

func readPages(p []byte) (sum int) {
	for at := 0; at < len(p); at += benchPage {
		sum += int(p[at])
	}
	return sum
}

// A record of 64 bytes goes to a child in C, and one comes back.
func BenchmarkRingPingPong(b *testing.B) {
	b.Run("impl=futex", func(b *testing.B) { require.NoError(b, ctest.PingPong(b.N)) })
	b.Run("impl=shared-c", func(b *testing.B) {
		m, bench, _ := newRingBench(b, 64, 4096)
		p := fork(b, m, sharedc.BenchAnswer, nil)
		require.NoError(b, bench.Ask())
		require.NoError(b, p.Wait(background))
	})
	b.Run("impl=shared-go", func(b *testing.B) {
		m, _, rings := newRingBench(b, 64, 4096)
		p := fork(b, m, sharedc.BenchAnswer, nil)
		for range b.N {
			put(b, rings[0], 64)
			get(b, rings[1])
		}
		require.NoError(b, p.Wait(background))
	})
}

func put(b *testing.B, r *shared.Ring, n int) {
	buf, err := r.Reserve(background, n)
	if err != nil {
		b.Fatal(err)
	}
	writePages(buf)
	if err := r.Commit(); err != nil {
		b.Fatal(err)
	}
}

func get(b *testing.B, r *shared.Ring) int {
	rec, err := r.Peek(background)
	if err != nil {
		b.Fatal(err)
	}
	sum := readPages(rec)
	if err := r.Release(); err != nil {
		b.Fatal(err)
	}
	return sum
}

// Records go to another process. A byte of each page is written, and read.
func BenchmarkRingStream(b *testing.B) {
	for _, c := range []struct {
		name         string
		length, size int
	}{{"64B", 64, 1 << 16}, {"1MiB", 1 << 20, 1 << 23}} {
		b.Run("record="+c.name, func(b *testing.B) {
			bytes := func(b *testing.B) { b.SetBytes(int64(c.length)) }
			b.Run("impl=pipe", func(b *testing.B) {
				bytes(b)
				require.NoError(b, sharedc.PipeLoop(b.N, c.length))
			})
			b.Run("impl=shared-c", func(b *testing.B) {
				bytes(b)
				m, bench, _ := newRingBench(b, c.length, c.size)
				p := fork(b, m, sharedc.BenchDrain, nil)
				require.NoError(b, bench.Stream())
				require.NoError(b, p.Wait(background))
			})
			b.Run("impl=shared-go-to-c", func(b *testing.B) {
				bytes(b)
				m, _, rings := newRingBench(b, c.length, c.size)
				p := fork(b, m, sharedc.BenchDrain, nil)
				for range b.N {
					put(b, rings[0], c.length)
				}
				require.NoError(b, p.Wait(background))
			})
			b.Run("impl=shared-c-to-go", func(b *testing.B) {
				bytes(b)
				m, _, rings := newRingBench(b, c.length, c.size)
				p := fork(b, m, sharedc.BenchStream, nil)
				sum := 0
				for range b.N {
					sum += get(b, rings[0])
				}
				require.Equal(b, b.N*((c.length+benchPage-1)/benchPage), sum)
				require.NoError(b, p.Wait(background))
			})
		})
	}
}
