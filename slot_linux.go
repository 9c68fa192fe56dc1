package shm

import (
	"fmt"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// slot is the memory by which bytes go to and from one child of a pool. It is
// part of the child's control memory, see csrc/control.h. The child can change
// all of it at any time. So the parent reads from it the bytes of answers only.
type slot struct{ in, out []byte }

const (
	// defaultMaxSlot is the default of PoolConfig.MaxIn and MaxOut: 16 MiB, and
	// 1 MiB where addresses have 32 bits.
	defaultMaxSlot = 1 << (20 + 4*(^uint(0)>>63))

	// keepOfSlot is how much of each part of a slot keeps its memory between
	// calls, in bytes.
	keepOfSlot = 1 << 20
)

// slotSize returns the default for 0, and an error for a size that cannot be
// had.
func slotSize(field string, n int) (int, error) {
	switch {
	case n == 0:
		return defaultMaxSlot, nil
	case n < 0:
		return 0, fmt.Errorf("PoolConfig.%s is %d, must not be negative: %w", field, n, unix.EINVAL)
	case n > math.MaxInt/4:
		return 0, fmt.Errorf("PoolConfig.%s is %d, more than the address space has: %w",
			field, n, unix.ENOMEM)
	}
	return n, nil
}

// addSlot makes a fork's child have a slot.
func (args *forkArgs) addSlot(maxIn, maxOut int) {
	page := os.Getpagesize()
	args.slotOut = uintptr(pages(maxIn) * page)
	args.slot = args.slotOut + uintptr(pages(maxOut)*page)
	args.maxOut = uintptr(maxOut)
}

// newSlot returns the slot of a child that addSlot was called for.
func newSlot(c *control, maxIn, maxOut int) slot {
	start := c.page.slot(c.slot)
	out := unsafe.Add(start, pages(maxIn)*os.Getpagesize())
	return slot{unsafe.Slice((*byte)(start), maxIn), unsafe.Slice((*byte)(out), maxOut)}
}

// trim gives the memory of a large call back to the kernel. used says how much
// of out the call may have used. It is what the child says, and costs the child
// its own memory only.
func (s slot) trim(in int, used uint64) {
	if in > keepOfSlot {
		punch(s.in[keepOfSlot:])
	}
	if used > keepOfSlot && len(s.out) > keepOfSlot {
		punch(s.out[keepOfSlot:])
	}
}

// punch frees pages of shared memory. If the kernel refuses, for example
// because the memory is locked, the pages stay.
func punch(b []byte) { _ = unix.Madvise(b, unix.MADV_REMOVE) }
