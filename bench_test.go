//go:build linux && cgo

package shm_test

import (
	"fmt"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// Each benchmark measures ours (impl=go) and what it is held against, in the same run. What a
// benchmark runs is built before anything is timed. The
// technique is the build's default: run both builds to compare them, as make compare does.

func technique() string {
	if shm.DefaultTechnique() == shm.DevZero {
		return "technique=devzero"
	}
	return "technique=anonymous"
}

// BenchmarkMap maps, touches and closes.
func BenchmarkMap(b *testing.B) {
	for _, sharing := range []shm.Sharing{shm.Private, shm.Shared} {
		name := fmt.Sprintf("sharing=%s/size=4Ki/%s",
			strings.ToLower(strings.TrimPrefix(sharing.String(), "MAP_")), technique())
		b.Run("impl=go/"+name, func(b *testing.B) {
			for b.Loop() {
				m, err := shm.Map(sharing, 4096, nil)
				if err != nil {
					b.Fatal(err)
				}
				m.Bytes()[0] = 1
				if err := m.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("impl=c/"+name, func(b *testing.B) {
			require.NoError(b,
				ctest.MapLoop(b.N, shm.DefaultTechnique() == shm.DevZero, sharing, 4096))
		})
	}
}

// BenchmarkRawFork forks a child that exits, and reaps it, by the calls as C
// has them; in C, by the same calls in the same small Go process.
func BenchmarkRawFork(b *testing.B) {
	program := forkWaitInGo(b)
	b.Run("impl=go", func(b *testing.B) { runForkWait(b, program, "raw", strconv.Itoa(b.N)) })
	b.Run("impl=c", func(b *testing.B) { runForkWait(b, program, "c", strconv.Itoa(b.N)) })
}

// BenchmarkForkWait is Mapping.Fork and Process.Wait in a small Go program; in
// C, fork and waitpid in a small C program.
func BenchmarkForkWait(b *testing.B) {
	inGo, inC := forkWaitInGo(b), forkWaitInC(b)
	b.Run("impl=go/"+technique(),
		func(b *testing.B) { runForkWait(b, inGo, "mapping", strconv.Itoa(b.N)) })
	b.Run("impl=c/"+technique(), func(b *testing.B) { runForkWait(b, inC, strconv.Itoa(b.N)) })
}

// BenchmarkForkHeap is BenchmarkForkWait in programs with a heap, all of it
// touched: the Go heap left to the child, and left out of it (Lean); in C,
// memory of malloc.
func BenchmarkForkHeap(b *testing.B) {
	inGo, inC := forkWaitInGo(b), forkWaitInC(b)
	for _, heap := range []int{0, 64, 1024} {
		if heap<<20 > most() {
			continue
		}
		name := fmt.Sprintf("/heap=%dMi", heap)
		for _, mode := range []string{"mapping", "lean"} {
			b.Run("impl="+map[string]string{"mapping": "go", "lean": "lean"}[mode]+name,
				func(b *testing.B) {
					runForkWait(b, inGo, mode, strconv.Itoa(b.N), strconv.Itoa(heap))
				})
		}
		b.Run("impl=c"+name, func(b *testing.B) {
			runForkWait(b, inC, strconv.Itoa(b.N), strconv.Itoa(heap))
		})
	}
}

// BenchmarkForkServer forks a child that exits, and reaps it, by a fork server
// (impl=server) and by this process (impl=go), in programs with so much of a
// heap; in C, by fork in a small C program. It reports the medians of the time to
// the child's first line and of that until the child is reaped, and the parent's
// page faults per child.
func BenchmarkForkServer(b *testing.B) {
	inGo, inC := firstLineInGo(b), firstLineInC(b)
	for _, heap := range []int{0, 1024} {
		if heap<<20 > most() {
			continue
		}
		name := fmt.Sprintf("/heap=%dMi", heap)
		mib := strconv.Itoa(heap)
		b.Run("impl=server"+name, func(b *testing.B) { runFirstLine(b, inGo, "server", mib) })
		b.Run("impl=sandbox"+name, func(b *testing.B) { runFirstLine(b, inGo, "sandbox", mib) })
		b.Run("impl=go"+name, func(b *testing.B) { runFirstLine(b, inGo, "fork", mib) })
		b.Run("impl=c"+name, func(b *testing.B) { runFirstLine(b, inC, "fork", mib) })
	}
}

var (
	firstLineInGo = goBuildOnce("./internal/ctest/firstline", buildSetting("-tags"))
	firstLineInC  = compileOnce("firstline-c", "internal/ctest/testdata/firstline.c",
		"internal/ctest/loops.c")
)

// runFirstLine has a program fork, and takes its own word for what it cost. A program takes so long to
// touch its heap that b.N stays 1: the first fork is not like the others.
func runFirstLine(b *testing.B, program, by, heap string) {
	out, err := exec.Command(program, by, strconv.Itoa(max(b.N, 50)), heap).Output()
	require.NoError(b, err)
	var first, reaped, faults float64
	_, err = fmt.Sscan(string(out), &first, &reaped, &faults)
	require.NoError(b, err)
	b.ReportMetric(reaped, "ns/op")
	b.ReportMetric(first, "first-ns/op")
	b.ReportMetric(faults, "faults/op")
}

// BenchmarkCall is one call of a C function that adds 64 bytes: by a child that
// waits for it, by one that is forked for it, and here; beside it what any call
// between processes takes at least, a futex passed there and back, and what a
// process of its own takes.
func BenchmarkCall(b *testing.B) {
	m := newMapping(b, shm.Shared, 4096, nil)
	b.Run("impl=pool", func(b *testing.B) {
		p := newPool(b, m, 1, nil)
		for b.Loop() {
			if _, err := p.Call(background, ctest.Add, 0, 64); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("impl=pingpong", func(b *testing.B) {
		b.ResetTimer()
		if err := ctest.PingPong(b.N); err != nil {
			b.Fatal(err)
		}
	})
	for impl, cfg := range map[string]*shm.ForkConfig{"fork": nil, "lean": {Lean: true}} {
		b.Run("impl="+impl, func(b *testing.B) {
			for b.Loop() {
				if err := shm.Call(background, ctest.Status, m, cfg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("impl=exec", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("impl=cgo", func(b *testing.B) {
		for b.Loop() {
			if ctest.AddHere(m, 64) != 0 {
				b.Fatal()
			}
		}
	})
}

// BenchmarkDo has a pool's child copy its input, by Do and DoView; held against a Call on memory that
// caller and child share (impl=call), and against what callers did before Do: one memcpy into that
// memory, a Call, and one memcpy out of it (impl=copies).
func BenchmarkDo(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		in := make([]byte, size)
		m := newMapping(b, shm.Shared, 2*size, nil)
		p := newPool(b, m, 1, nil)
		run := func(impl string, call func() error) {
			b.Run(fmt.Sprintf("impl=%s/size=%dKi", impl, size>>10), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := call(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("call", func() error {
			_, err := p.Call(background, ctest.Echo, 0, 2*size)
			return err
		})
		run("copies", func() error {
			copy(m.Bytes(), in)
			_, err := p.Call(background, ctest.Echo, 0, 2*size)
			keptBytes = slices.Clone(m.Bytes()[size:])
			return err
		})
		run("do", func() (err error) {
			keptBytes, err = p.Do(background, ctest.DoEcho, in)
			return err
		})
		run("view", func() error {
			return p.DoView(background, ctest.DoEcho, in, func([]byte) error { return nil })
		})
	}
}

var keptBytes []byte

var (
	forkWaitInGo = goBuildOnce("./internal/ctest/forkwait", buildSetting("-tags"))
	forkWaitInC  = compileOnce("forkwait-c", "internal/ctest/testdata/forkwait.c",
		"internal/ctest/loops.c")
)

// runForkWait has a program fork, and takes its own word for the time.
func runForkWait(b *testing.B, program string, args ...string) {
	out, err := exec.Command(program, args...).Output()
	require.NoError(b, err)
	ns, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	require.NoError(b, err)
	b.ReportMetric(ns, "ns/op")
}

// BenchmarkGrow grows memory from 1 MiB to 1 GiB by doubling, touching every
// page; in C by realloc, in Go by append. Each begins with nothing, on a
// machine that has had the memory before.
func BenchmarkGrow(b *testing.B) {
	for _, by := range []struct {
		impl string
		grow func() error
	}{
		{"go", growMapping},
		{"c", func() error { return ctest.GrowLoop(1, growFirst, most()) }},
		{"append", growSlice},
	} {
		b.Run("impl="+by.impl+"/"+technique(), func(b *testing.B) {
			require.NoError(b, by.grow())
			for b.Loop() {
				b.StopTimer()
				// Otherwise append would get memory of the last turn, already paid for.
				debug.FreeOSMemory()
				b.StartTimer()
				if err := by.grow(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

const growFirst = 1 << 20

// most is the most memory that is measured, in bytes. With -short it is little:
// to see that all runs.
func most() int {
	if testing.Short() {
		return 64 << 20
	}
	return 1 << 30
}

func growMapping() error {
	m, err := shm.Map(shm.Private, growFirst, nil)
	if err != nil {
		return err
	}
	touched := 0
	for length := growFirst; length <= most(); length *= 2 {
		if err := m.Resize(length, shm.MayMove); err != nil {
			return err
		}
		for bytes := m.Bytes(); touched < length; touched += 4096 {
			bytes[touched] = 1
		}
	}
	return m.Close()
}

func growSlice() error {
	bytes := make([]byte, growFirst)
	touched := 0
	for length := growFirst; length <= most(); length *= 2 {
		bytes = append(bytes, make([]byte, length-len(bytes))...)
		for ; touched < length; touched += 4096 {
			bytes[touched] = 1
		}
	}
	return nil
}

// BenchmarkMove resizes a touched GiB that must move; in C, copies one by
// memcpy.
func BenchmarkMove(b *testing.B) {
	size := most()
	b.Run("impl=go/"+technique(), func(b *testing.B) {
		m := newMapping(b, shm.Private, size, nil)
		touch(m.Bytes())
		for b.Loop() {
			b.StopTimer()
			addr := m.Addr()
			behind := unsafe.Add(addr, size)
			blocked, err := shm.Mmap(behind, 4096, unix.PROT_NONE,
				unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, -1, 0)
			if err != nil {
				require.Equal(b, unix.EEXIST, err) // by another's mapping
			}
			b.StartTimer()
			if err := m.Resize(size+4096, shm.MayMove); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			require.NotEqual(b, addr, m.Addr())
			if blocked != nil {
				require.NoError(b, shm.Munmap(blocked, 4096))
			}
			require.NoError(b, m.Resize(size, shm.InPlace))
			b.StartTimer()
		}
	})
	b.Run("impl=c/"+technique(), func(b *testing.B) {
		src, dst := newMapping(b, shm.Private, size, nil), newMapping(b, shm.Private, size, nil)
		touch(src.Bytes())
		touch(dst.Bytes())
		for b.Loop() {
			ctest.Copy(dst.Bytes(), src.Bytes())
		}
	})
}

func touch(bytes []byte) {
	for i := 0; i < len(bytes); i += 4096 {
		bytes[i] = 1
	}
}

// BenchmarkAccess adds up 64 KiB, once obtained, by each way to obtain them;
// against a Go slice.
func BenchmarkAccess(b *testing.B) {
	const n = 64 << 10 / 8
	sum := func(b *testing.B, words []uint64) {
		b.SetBytes(n * 8)
		for b.Loop() {
			total := uint64(0)
			for _, w := range words {
				total += w
			}
			sink = total
		}
	}
	m, heap := newMapping(b, shm.Private, n*8, nil), make([]uint64, n)
	words, array := must(shm.Slice[uint64](m, 0, n)), must(shm.At[[n]uint64](m, 0))
	for i := range n { // untouched pages would all be one page of zeros
		words[i], heap[i] = uint64(i), uint64(i)
	}
	for _, by := range []struct {
		name  string
		words []uint64
	}{
		{"slice", words},
		{"at", array[:]},
		{"bytes", unsafe.Slice((*uint64)(unsafe.Pointer(&m.Bytes()[0])), n)},
	} {
		b.Run("impl=go/by="+by.name, func(b *testing.B) { sum(b, by.words) })
		b.Run("impl=heap/by="+by.name, func(b *testing.B) { sum(b, heap) })
	}
}

// BenchmarkObtain obtains a value by At, Slice and Bytes, and copies one.
func BenchmarkObtain(b *testing.B) {
	m := newMapping(b, shm.Private, 4096, nil)
	var buf [8]byte
	b.Run("by=bytes", func(b *testing.B) {
		for b.Loop() {
			sink = uint64(m.Bytes()[8])
		}
	})
	b.Run("by=at", func(b *testing.B) {
		for b.Loop() {
			sink = *must(shm.At[uint64](m, 8))
		}
	})
	b.Run("by=at,struct", func(b *testing.B) {
		for b.Loop() {
			sink = uint64(must(shm.At[point](m, 8)).X)
		}
	})
	b.Run("by=slice", func(b *testing.B) {
		for b.Loop() {
			sink = must(shm.Slice[uint64](m, 8, 8))[7]
		}
	})
	b.Run("by=readat", func(b *testing.B) {
		for b.Loop() {
			if _, err := m.ReadAt(buf[:], 8); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by=writeat", func(b *testing.B) {
		for b.Loop() {
			if _, err := m.WriteAt(buf[:], 8); err != nil {
				b.Fatal(err)
			}
		}
	})
}

var sink uint64
