//go:build linux && cgo

package shm_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// BenchmarkForkPause forks a process with a touched GiB of private memory, and
// takes how long fork(2) held the thread.
func BenchmarkForkPause(b *testing.B) {
	for _, huge := range []struct {
		name  string
		pages shm.HugePages
	}{{"none", shm.HugeNone}, {"transparent", shm.HugeTransparent}} {
		b.Run("impl=go/huge="+huge.name, func(b *testing.B) {
			m := newMapping(b, shm.Private, most(),
				&shm.Config{Technique: shm.Anonymous, Huge: huge.pages})
			if huge.pages == shm.HugeNone {
				require.NoError(b, m.Advise(0, m.Len(), unix.MADV_NOHUGEPAGE))
			}
			touch(m.Bytes())
			held := 0.0
			for b.Loop() {
				p, err := m.Fork(ctest.Exit, nil)
				require.NoError(b, err)
				held += float64(p.ForkTime().Nanoseconds())
				_ = wait(b, p) // it exits with what it takes for a status
			}
			b.ReportMetric(held/float64(b.N), "fork-ns/op")
		})
	}
}

// BenchmarkGrowShared grows a shared Memfd mapping from 1 MiB to 1 GiB by
// doubling, touching every page; against a new mapping of twice the length and
// a copy, which is what is left without growth.
func BenchmarkGrowShared(b *testing.B) {
	b.Run("impl=go", func(b *testing.B) {
		for b.Loop() {
			m, err := shm.Map(shm.Shared, growFirst,
				&shm.Config{Technique: shm.Memfd, Reserve: most()})
			require.NoError(b, err)
			touched := 0
			for length := growFirst; length <= most(); length *= 2 {
				require.NoError(b, m.Resize(length, shm.InPlace))
				for bytes := m.Bytes(); touched < length; touched += 4096 {
					bytes[touched] = 1
				}
			}
			require.NoError(b, m.Close())
		}
	})
	b.Run("impl=copy", func(b *testing.B) {
		for b.Loop() {
			m, err := shm.Map(shm.Shared, growFirst, nil)
			require.NoError(b, err)
			touched := 0
			for length := growFirst; length <= most(); length *= 2 {
				if length > m.Len() {
					larger, err := shm.Map(shm.Shared, length, nil)
					require.NoError(b, err)
					copy(larger.Bytes(), m.Bytes())
					require.NoError(b, m.Close())
					m = larger
				}
				for bytes := m.Bytes(); touched < length; touched += 4096 {
					bytes[touched] = 1
				}
			}
			require.NoError(b, m.Close())
		}
	})
}

// BenchmarkMoveTo moves a touched GiB between two places; in C, copies one by
// memcpy.
func BenchmarkMoveTo(b *testing.B) {
	size := most()
	b.Run("impl=go", func(b *testing.B) {
		m := newMapping(b, shm.Private, size, nil)
		touch(m.Bytes())
		for b.Loop() {
			b.StopTimer()
			place := newMapping(b, shm.Private, size, nil)
			b.StartTimer()
			if err := m.MoveTo(place); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("impl=c", func(b *testing.B) {
		src, dst := newMapping(b, shm.Private, size, nil), newMapping(b, shm.Private, size, nil)
		touch(src.Bytes())
		touch(dst.Bytes())
		for b.Loop() {
			ctest.Copy(dst.Bytes(), src.Bytes())
		}
	})
}
