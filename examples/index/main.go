//go:build linux && cgo

// Command index fills one hash table of strings in shared memory, from four C
// children and from Go at once. Children are killed at random all the while, and
// others go on in their place. At the end the command checks that each string that
// was acknowledged is in the table once, and that the arena has lost nothing. If
// that is not so, the command exits with status 1.
package main

// #include "index.h"
import "C"

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/shared"
)

func main() {
	strings := flag.Int("strings", 20_000, "number of strings that each worker adds")
	every := flag.Duration("kill", 2*time.Millisecond, "mean time between two kills")
	flag.Parse()
	x, err := newIndex()
	if err != nil {
		log.Fatal(err)
	}
	defer x.m.Close()
	began := time.Now()
	kills, err := x.run(context.Background(), *strings, *every)
	if err != nil {
		log.Fatal(err)
	}
	stats, err := x.check()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d strings in %v, %d children killed: none lost, none twice\n",
		*strings*workers, time.Since(began).Round(time.Millisecond), kills)
	fmt.Printf("arena: %d bytes, %d blocks in use, %d free, %d lost\n", stats.Size, stats.Used, stats.Free, stats.Lost)
}

const (
	workers = C.INDEX_WORKERS
	here    = workers - 1 // the worker that is Go
)

// entry is struct index_entry.
type entry struct {
	next   shared.Ref[entry]
	key    shared.Ref[byte]
	length uint32
	ready  uint32
}

// worker is struct index_worker.
type worker struct {
	fresh       shared.Ref[entry]
	acked, goal uint64
	_           [5]uint64
}

// words is struct index.
type words struct {
	lock   [C.INDEX_LOCKS][shared.MutexSize]byte
	bucket [C.INDEX_BUCKETS]shared.Ref[entry]
	worker [workers]worker
}

// The structs are as large as in C: another index than 0 does not compile.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(entry{})-C.sizeof_struct_index_entry]
	_ = [1]struct{}{}[unsafe.Sizeof(words{})-C.sizeof_struct_index]
)

// index is the table, as Go has it.
type index struct {
	m     *shm.Mapping
	a     *shared.Arena
	locks [C.INDEX_LOCKS]*shared.Mutex
	*words
}

// newIndex makes an empty table in memory that grows in place.
func newIndex() (*index, error) {
	const most = 1 << 30
	m, err := shm.Map(shm.Shared, 4<<20, &shm.Config{Technique: shm.Memfd, Reserve: most})
	if err != nil {
		return nil, err
	}
	x := &index{m: m}
	x.words, err = shm.At[words](m, 0)
	for i := range x.locks {
		if err == nil {
			x.locks[i], err = shared.NewMutex(m, i*shared.MutexSize)
		}
	}
	if err == nil {
		x.a, err = shared.NewArena(m, C.INDEX_ARENA, &shared.ArenaConfig{Max: most - C.INDEX_ARENA})
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return x, nil
}

// run fills the table, and returns how many children it has killed.
func (x *index) run(ctx context.Context, strings int, every time.Duration) (kills int64, err error) {
	var children [here]atomic.Pointer[shm.Process]
	var killed atomic.Int64
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i := range workers {
		x.worker[i].goal = uint64(strings)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if i == here {
				errs[i] = x.fill(ctx)
			} else {
				errs[i] = x.supervise(ctx, i, &children[i])
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return killed.Load(), errors.Join(errs...)
		case <-time.After(time.Duration(rand.ExpFloat64() * float64(every))):
			if p := children[rand.IntN(here)].Load(); p != nil && p.Kill() == nil {
				killed.Add(1)
			}
		}
	}
}

// supervise runs one child after another until the worker has reached its goal.
func (x *index) supervise(ctx context.Context, i int, child *atomic.Pointer[shm.Process]) error {
	for {
		p, err := x.m.Fork(shm.ChildFunc(C.index_fill), &shm.ForkConfig{Arg: uintptr(i), KillWithParent: true,
			CloseFDs: true, Lean: true, Sandbox: &shm.Sandbox{Optional: true}})
		if err != nil {
			return err
		}
		child.Store(p)
		err = p.Wait(ctx)
		var exit *shm.ExitError
		if !errors.As(err, &exit) || !exit.Status.Signaled() {
			return err
		}
	}
}

// fill is what the children do, in Go.
func (x *index) fill(ctx context.Context) error {
	w := &x.worker[here]
	for ; w.acked < w.goal; w.acked++ {
		if err := x.insert(ctx, w, stringOf(here, w.acked)); err != nil {
			return err
		}
	}
	return nil
}

// insert adds a string that is not in the table.
func (x *index) insert(ctx context.Context, w *worker, s string) error {
	e, err := shared.Alloc(x.a, &w.fresh)
	if err != nil {
		return err
	}
	key, err := shared.AllocSlice(x.a, &e.key, len(s))
	if err != nil {
		return err
	}
	copy(key, s)
	e.length, e.ready = uint32(len(s)), 1
	b := bucketOf(s)
	l := x.locks[b%C.INDEX_LOCKS]
	if err := lock(ctx, l); err != nil {
		return err
	}
	e.next = x.bucket[b]
	x.bucket[b], w.fresh = w.fresh, shared.Ref[entry]{}
	return l.Unlock()
}

// lock locks a bucket. A list is whole at every instant, so there is nothing to mend.
func lock(ctx context.Context, l *shared.Mutex) error {
	err := l.Lock(ctx)
	if err == shared.ErrOwnerDied {
		err = l.Consistent()
	}
	return err
}

func bucketOf(s string) uint32 {
	hash := uint32(2166136261)
	for i := range len(s) {
		hash = (hash ^ uint32(s[i])) * 16777619
	}
	return hash % C.INDEX_BUCKETS
}

// check checks that each worker's strings are in the table once, and nothing else, and that no block
// is lost.
func (x *index) check() (shared.ArenaStats, error) {
	found := map[string]bool{}
	for b := range x.bucket {
		for e := x.bucket[b].In(x.a); e != nil; e = e.next.In(x.a) {
			s := string(e.key.Slice(x.a, int(e.length)))
			if found[s] || bucketOf(s) != uint32(b) {
				return shared.ArenaStats{}, fmt.Errorf("%q is twice in the table, or in a wrong bucket", s)
			}
			found[s] = true
		}
	}
	acked := 0
	for i := range x.worker {
		acked += int(x.worker[i].acked)
		for n := range x.worker[i].acked {
			if s := stringOf(i, n); !found[s] {
				return shared.ArenaStats{}, fmt.Errorf("%q is lost", s)
			}
		}
	}
	stats, err := x.a.Stats()
	switch {
	case err != nil:
	case len(found) != acked:
		err = fmt.Errorf("%d strings are in the table, of which %d are acknowledged", len(found), acked)
	case stats.Used != 2*acked || stats.Lost != 0:
		err = fmt.Errorf("%d blocks are in use and %d lost, must be %d and 0", stats.Used, stats.Lost, 2*acked)
	default:
		err = x.a.Check()
	}
	return stats, err
}

// stringOf returns the n-th string of a worker.
func stringOf(worker int, n uint64) string {
	if worker == here {
		return fmt.Sprintf("a string of Go: %d", n)
	}
	return fmt.Sprintf("%.*s of worker %d: %d", n%20, "a string of some kind", worker, n)
}
