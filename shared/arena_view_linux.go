//go:build cgo

package shared

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

// arenaView is an arena's memory. Whatever its bytes are, the methods follow them nowhere else.
type arenaView struct {
	words *arenaWords
	max   uint32 // units that have a word in the table
	units uint32 // units that are there: no more than max, and the table is among them
}

// block is a block of a chunk.
type block struct {
	off   uint64
	unit  uint32 // of its chunk
	class uint32
	i     uint32 // in the chunk
	cell  *uint32
}

// isShort reports whether the arena has more units than the view.
func (v arenaView) isShort() bool { return atomic.LoadUint32(&v.words.units) > v.units }

// arenaFirst returns the unit behind the table of an arena.
func arenaFirst(max uint32) uint32 {
	return uint32((uint64(arenaTable) + 4*uint64(max) + arenaUnit - 1) / arenaUnit)
}

// arenaUnits returns how many units an arena can have, at an offset of a mapping.
func arenaUnits(off, extent, size int) (uint32, error) {
	if size < 0 || uint64(size) > maxArena {
		return 0, fmt.Errorf("a Max of %d bytes is out of the range from 0 to %d: %w", size, uint64(maxArena), unix.EINVAL)
	}
	if size == 0 {
		size = max(extent-off, 0)
	}
	units := uint32(size / arenaUnit)
	return units, checkArenaSize(off, extent, units)
}

// checkArenaSize returns an error if an arena's table and one unit do not lie in the mapping.
func checkArenaSize(off, extent int, units uint32) error {
	least := arenaFirst(units) + 1
	if units < least || extent-off < int(least)*arenaUnit {
		return fmt.Errorf("an arena of up to %d bytes needs %d bytes from here on, and the mapping has %d: %w",
			uint64(units)*arenaUnit, uint64(least)*arenaUnit, extent-off, shm.ErrRange)
	}
	return nil
}

// viewOf returns the arena that is at the beginning of the memory, if there can be one.
func viewOf(memory []byte) (arenaView, bool) {
	v := arenaView{words: (*arenaWords)(unsafe.Pointer(unsafe.SliceData(memory)))}
	if uintptr(len(memory)) < arenaTable {
		return v, false
	}
	v.max = min(atomic.LoadUint32(&v.words.max), arenaMaxUnits)
	v.units = uint32(min(uint64(len(memory))/arenaUnit, uint64(atomic.LoadUint32(&v.words.units)), uint64(v.max)))
	return v, arenaFirst(v.max) < v.units
}

// word returns the word of a unit in the table.
func (v arenaView) word(unit uint32) *uint32 {
	return (*uint32)(unsafe.Add(unsafe.Pointer(v.words), arenaTable+4*uintptr(unit)))
}

// chunk returns the chunk that begins at a unit.
func (v arenaView) chunk(unit uint32) *chunkWords {
	return (*chunkWords)(unsafe.Add(unsafe.Pointer(v.words), uintptr(unit)*arenaUnit))
}

// isFirst reports whether the word of a unit says that a chunk begins there, and the chunk has memory.
func (v arenaView) isFirst(unit, word uint32) bool {
	return word&unitFirst != 0 && word&^(unitFirst|unitFull|unitClass) == 0 && word&unitClass < arenaClasses &&
		classes[word&unitClass].units <= v.units-unit
}

// isChunk reports whether a chunk of the class begins at a unit.
func (v arenaView) isChunk(unit, class uint32) bool {
	if unit < arenaFirst(v.max) || unit >= v.units {
		return false
	}
	word := atomic.LoadUint32(v.word(unit))
	return v.isFirst(unit, word) && word&unitClass == class
}

// chunks calls f with each chunk from a unit on, up to another, until f returns false. chunks returns
// the unit behind the last chunk.
func (v arenaView) chunks(unit, end uint32, f func(unit, word uint32) (goOn bool)) uint32 {
	for unit < end {
		word := atomic.LoadUint32(v.word(unit))
		if !v.isFirst(unit, word) || !f(unit, word) {
			break
		}
		unit += classes[word&unitClass].units
	}
	return unit
}

// blockAt returns the i-th block of a chunk.
func (v arenaView) blockAt(unit, class, i uint32) block {
	c := &classes[class]
	off := uint64(unit)*arenaUnit + uint64(c.first) + uint64(i)*c.size
	return block{off, unit, class, i, (*uint32)(unsafe.Add(unsafe.Pointer(&v.chunk(unit).cell), 4*uintptr(i)))}
}

// find returns the block that begins at an offset.
func (v arenaView) find(off uint64) (block, bool) {
	unit, first := off/arenaUnit, uint64(arenaFirst(v.max))
	if unit < first || unit >= uint64(v.units) {
		return block{}, false
	}
	word := atomic.LoadUint32(v.word(uint32(unit)))
	if word&unitFirst == 0 { // then word is where the chunk begins
		if unit = uint64(word); unit < first || unit >= uint64(v.units) {
			return block{}, false
		}
		word = atomic.LoadUint32(v.word(uint32(unit)))
	}
	if !v.isFirst(uint32(unit), word) {
		return block{}, false
	}
	c := &classes[word&unitClass]
	i := (off - unit*arenaUnit - uint64(c.first)) / c.size
	if off < unit*arenaUnit+uint64(c.first) || i >= uint64(c.blocks) {
		return block{}, false
	}
	b := v.blockAt(uint32(unit), word&unitClass, uint32(i))
	return b, b.off == off
}

// hintAt says that the block is free, where the next one looks for such.
func (v arenaView) hintAt(b block) {
	atomic.StoreUint32(&v.chunk(b.unit).next, b.i)
	if word := v.word(b.unit); atomic.LoadUint32(word)&unitFull != 0 {
		atomic.AndUint32(word, ^uint32(unitFull))
	}
	if hint := &v.words.hint[b.class]; atomic.LoadUint32(&hint.unit) != b.unit {
		atomic.StoreUint32(&hint.unit, b.unit)
		atomic.StoreUint32(&hint.more, 1)
	}
}

// mendTable finishes the chunk that a process made when it died, or clears what is there of the chunk.
func (v arenaView) mendTable() {
	next := atomic.LoadUint32(&v.words.next)
	if next < arenaFirst(v.max) || next >= v.units {
		return
	}
	if word := atomic.LoadUint32(v.word(next)); v.isFirst(next, word) {
		atomic.StoreUint32(&v.words.next, next+classes[word&unitClass].units)
		return
	}
	for unit := next + 1; unit < v.units && atomic.LoadUint32(v.word(unit)) == next; unit++ {
		atomic.StoreUint32(v.word(unit), 0)
	}
}
