//go:build linux && cgo

package goheap

import (
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/procmaps"
)

// TestMain is also the small program of TestEveryProcessFindsItsHeap.
func TestMain(m *testing.M) {
	if size := os.Getenv("GOHEAP_TEST_SIZE"); size != "" {
		n, err := strconv.Atoi(size)
		if err == nil {
			err = checkHeapOf(n)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var sink [][]byte

// checkHeapOf allocates n more bytes and says what is wrong with the ranges
// then.
func checkHeapOf(n int) error {
	if err := checkRanges(); err != nil {
		return err
	}
	for n > 0 {
		sink = append(sink, make([]byte, max(n/2, 1)))
		n -= max(n/2, 1)
		if n < 1<<10 {
			break
		}
	}
	if err := checkRanges(); err != nil {
		return fmt.Errorf("grown: %w", err)
	}
	for _, b := range sink {
		if !contains(Ranges(), addrOf(b)) {
			return fmt.Errorf("%d bytes at %#x are not in %x", len(b), addrOf(b), Ranges())
		}
	}
	return nil
}

// checkRanges says whether less memory was found than the heap has, or memory
// that cannot be the heap's.
func checkRanges() error {
	ranges := Ranges()
	var found uint64
	for v, err := range procmaps.All(0) {
		if err != nil {
			return err
		}
		for _, r := range ranges {
			size := uint64(0)
			if low, high := max(v.Start, r.Start), min(v.End, r.End); low < high {
				size = uint64(high - low)
			}
			if size > 0 && (v.Inode != 0 || v.Perm&procmaps.Shared != 0) {
				return fmt.Errorf("range %x has %v %v", r, v.Perm, v)
			}
			if v.Perm&procmaps.Writable != 0 {
				found += size
			}
		}
	}
	heap.Lock()
	defer heap.Unlock()
	if found < heap.mapped {
		return fmt.Errorf("found %d bytes of %d in %x", found, heap.mapped, ranges)
	}
	return nil
}

func contains(ranges []Range, addr uintptr) bool {
	for _, r := range ranges {
		if r.Start <= addr && addr < r.End {
			return true
		}
	}
	return false
}

func addrOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// The heap begins at a random place in each process. GOHEAP_TEST_PROCESSES is
// the number of processes.
func TestEveryProcessFindsItsHeap(t *testing.T) {
	processes := 200
	if n := os.Getenv("GOHEAP_TEST_PROCESSES"); n != "" {
		var err error
		processes, err = strconv.Atoi(n)
		require.NoError(t, err)
	} else if testing.Short() {
		processes = 20
	}
	sizes := []int{0, 1 << 10, 3 << 20, 64 << 20, 200 << 20}
	if bits.UintSize == 64 {
		sizes = append(sizes, 1<<30)
	}
	failed := 0
	for i := range processes {
		size := 0
		if i%4 == 0 {
			size = sizes[i/4%len(sizes)]
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "GOHEAP_TEST_SIZE="+strconv.Itoa(size))
		if out, err := cmd.CombinedOutput(); err != nil {
			failed++
			t.Errorf("process %d with %d bytes: %v: %s", i, size, err, out)
		}
	}
	assert.Zero(t, failed, "of %d processes", processes)
}

func TestTheHeapIsFoundAsItGrows(t *testing.T) {
	defer func() { sink = nil }()
	require.NoError(t, checkHeapOf(300<<20))
	onStack := 0
	assert.True(t, contains(Ranges(), uintptr(unsafe.Pointer(&onStack))))
	assert.False(t, contains(Ranges(), uintptr(unsafe.Pointer(&arenaOfData))))
}

var arenaOfData [1]byte

func TestMemoryBesideTheHeapIsNotTheHeap(t *testing.T) {
	ranges := Ranges()
	first, last := ranges[0], ranges[len(ranges)-1]
	for _, addr := range []uintptr{first.Start - chunkSize, last.End} {
		// Where it is taken already, what is there is not the heap's either.
		p, err := unix.MmapPtr(-1, 0, unsafe.Add(nil, addr), chunkSize,
			unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED_NOREPLACE)
		if err == nil {
			defer unix.MunmapPtr(p, chunkSize)
		} else {
			require.ErrorIs(t, err, unix.EEXIST)
		}
	}
	lookAgain()
	for _, addr := range []uintptr{first.Start - 1, first.Start - chunkSize, last.End,
		last.End + chunkSize - 1} {
		assert.False(t, contains(Ranges(), addr))
	}
	require.NoError(t, checkRanges())
}

// lookAgain looks for the heap as if it had grown.
func lookAgain() {
	heap.Lock()
	heap.mapped = 0
	heap.Unlock()
	Ranges()
}

func TestHugeMappingsAreNotSearchedWhole(t *testing.T) {
	if bits.UintSize < 64 {
		t.Skip("a 32-bit process has no room for huge mappings")
	}
	size := uintptr(16)
	size <<= 40
	Ranges()
	probes := func() int {
		heap.Lock()
		before := heap.probe.probes
		heap.Unlock()
		lookAgain()
		heap.Lock()
		defer heap.Unlock()
		return heap.probe.probes - before
	}
	usual := probes()
	for _, prot := range []int{unix.PROT_NONE, unix.PROT_READ | unix.PROT_WRITE} {
		p, err := unix.MmapPtr(-1, 0, nil, size, prot,
			unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		require.NoError(t, err)
		assert.Less(t, probes()-usual, 4*maxMisses+maxDeep*2*chunkSize/pageSize)
		require.NoError(t, unix.MunmapPtr(p, size))
	}
}

func TestNeighboursOfAnArenaAreFoundWithoutProc(t *testing.T) {
	sink = append(sink, make([]byte, 5*arenaSize/2))
	defer func() { sink = nil }()
	Ranges()
	heap.Lock()
	defer heap.Unlock()
	arenas := heap.arenas
	defer func() { heap.arenas = arenas }()
	inside := (addrOf(sink[0]) + arenaSize) &^ (arenaSize - 1)
	heap.arenas = map[uintptr]bool{inside: true}
	findNeighbours(inside)
	assert.True(t, heap.arenas[inside-arenaSize])
	assert.True(t, heap.arenas[(addrOf(sink[0])+5*arenaSize/2-1)&^(arenaSize-1)])
	for arena := range heap.arenas {
		assert.True(t, arenas[arena])
	}
}
