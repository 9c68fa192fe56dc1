//go:build linux && cgo

// Package sharedc holds what the tests of package shared need of C.
package sharedc

/*
#cgo CFLAGS: -std=gnu11 -D_GNU_SOURCE -fno-plt
#include "gate.h"
*/
import "C"

import (
	"forkshm.example/shm"
	_ "forkshm.example/shm/shared" // has the functions that the children call
)

// Answer is what a child does: see gate.h.
var Answer = shm.ChildFunc(C.child_answer)

// GatePair is struct gate_pair.
type GatePair struct {
	Request       [2]uint32 // a gate
	Asked, Rounds uint32
	Reply         [2]uint32
	Answered      uint32
}
