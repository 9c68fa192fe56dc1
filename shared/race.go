//go:build race && linux && cgo

package shared

import (
	"runtime"
	"unsafe"
)

// The race detector does not see memory outside the Go heap. These variables stand for the
// structures. Structures that share one hide races from the detector, and make up none.
var raceWords [1 << 10]byte

func raceWord(where uint64) unsafe.Pointer {
	return unsafe.Pointer(&raceWords[where*0x9e3779b97f4a7c15>>54])
}

func raceAcquire(where uint64) { runtime.RaceAcquire(raceWord(where)) }
func raceRelease(where uint64) { runtime.RaceRelease(raceWord(where)) }
