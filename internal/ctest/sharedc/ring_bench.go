//go:build linux && cgo

package sharedc

// #include "ring_bench.h"
import "C"

import (
	"unsafe"

	"forkshm.example/shm"
)

// What children do in benchmarks: see ring_bench.h.
var (
	BenchAnswer = shm.ChildFunc(C.child_bench_answer)
	BenchStream = shm.ChildFunc(C.child_bench_stream)
	BenchDrain  = shm.ChildFunc(C.child_bench_drain)
)

// RingBench is struct ring_bench. Two rings follow.
type RingBench struct {
	Rounds, Length uint32
	Size           uint64
	_              [6]uint64
}

var _ = [1]struct{}{}[unsafe.Sizeof(RingBench{})-C.sizeof_struct_ring_bench]

// RingBenchOffset is where the first ring is.
const RingBenchOffset = C.sizeof_struct_ring_bench

func (b *RingBench) c() *C.struct_ring_bench { return (*C.struct_ring_bench)(unsafe.Pointer(b)) }

// Stream commits records, in C.
func (b *RingBench) Stream() error { return result(C.bench_stream(b.c())) }

// Ask sends records, and awaits one for each, in C.
func (b *RingBench) Ask() error { return result(C.bench_ask(b.c())) }

// PipeLoop writes n records of length bytes to a pipe(2) that a child reads.
func PipeLoop(n, length int) error { return result(C.loop_pipe(C.long(n), C.size_t(length))) }
