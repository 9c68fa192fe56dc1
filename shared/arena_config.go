package shared

import "math"

const (
	maxArena = 1 << 40 // the most bytes that an arena can have
	maxBlock = min(maxArena, math.MaxInt)
)

// ArenaConfig has the settings of an arena. A nil *ArenaConfig is the zero
// ArenaConfig.
type ArenaConfig struct {
	// Max is how many bytes the arena may have, from its offset on, its own
	// bookkeeping included. 0 means all of the mapping that is there now.
	//
	// In a Memfd mapping the arena grows up to Max, within Config.Reserve of the
	// mapping: when Alloc finds no room, and when a child's shm_alloc does. For
	// children, the Arena must be reachable in the program.
	Max int
}

// ArenaStats says what an arena has.
type ArenaStats struct {
	Size int // how many bytes the arena has now, its own bookkeeping included
	Max  int // how many bytes it can have
	Left int // how many bytes of Size are not of any size yet

	Used int // how many blocks are in use, or are about to be
	Free int // how many blocks are free, of those that have a size
	Lost int // how many blocks nobody can free; more than 0 if a process wrote to the arena's own bytes

	Classes []ArenaClass // the sizes of blocks of which there are some, smallest first
}

// ArenaClass says what an arena has of blocks of one size.
type ArenaClass struct {
	Size       int // of a block, in bytes
	Used, Free int // how many blocks
}
