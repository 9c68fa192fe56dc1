//go:build cgo

package shared

import "unsafe"

// This file declares what csrc/arena.h and csrc/shm_shared.h of package shm do. arena_layout_cgo.go
// checks at compile time that sizes and offsets are the same.

const (
	arenaUnit         = 4096 // SHM_ARENA_UNIT
	arenaSmallUnits   = 4    // SHM_ARENA_SMALL_UNITS
	arenaSmall        = 28   // SHM_ARENA_SMALL
	arenaLargestSmall = 4096 // SHM_ARENA_LARGEST_SMALL
	arenaClasses      = 135  // SHM_ARENA_CLASSES
	arenaMaxUnits     = 1 << 28
	arenaChunkHeader  = 64
	arenaFirstLarge   = 2 * arenaChunkHeader
)

// These constants are the words of an arena's table.
const (
	unitClass = 0xff
	unitFull  = 1 << 30
	unitFirst = 1 << 31
)

// These constants are the words of cells.
const (
	cellFree = 0
	cellUsed = 1 << 31

	cellPlaceShift = 16 // SHM_CELL_PLACE_SHIFT
	noteKeeps      = 1  // SHM_NOTE_KEEPS
)

// arenaHint is struct shm_arena_hint.
type arenaHint struct {
	unit, more uint32
}

// arenaWords is struct shm_arena.
type arenaWords struct {
	roomWords
	max, units, next, wanted, limit uint32
	_                               uint32
	hint                            [arenaClasses]arenaHint
	table                           [1]uint32
}

// chunkWords is struct shm_chunk.
type chunkWords struct {
	next uint32
	_    [15]uint32
	cell [1]uint32
}

const arenaTable = unsafe.Offsetof(arenaWords{}.table)

// blockClass is struct shm_arena_class.
type blockClass struct {
	units, blocks, first uint32
	size                 uint64
}

// classes are all size classes.
var classes = makeClasses()

func makeClasses() (all [arenaClasses]blockClass) {
	for i := range all {
		if i >= arenaSmall {
			units := stepSize(uint64(i - arenaSmall + 1))
			all[i] = blockClass{uint32(units), 1, arenaFirstLarge, units*arenaUnit - arenaFirstLarge}
			continue
		}
		c := blockClass{units: arenaSmallUnits, size: 16 * stepSize(uint64(i))}
		const chunk = arenaSmallUnits * arenaUnit
		for n := uint32((chunk - arenaChunkHeader) / (c.size + 4)); ; n-- { // with a cell of 4 bytes each
			c.blocks, c.first = n, (arenaChunkHeader+4*n+63)&^63
			if uint64(c.first)+uint64(n)*c.size <= chunk {
				break
			}
		}
		all[i] = c
	}
	return all
}

// stepSize returns the size of a step. Sizes go up from 1 to 8, and from there on 4 steps double the
// size.
func stepSize(step uint64) uint64 {
	if step < 8 {
		return step + 1
	}
	return (step%4 + 5) << (step/4 - 1)
}
