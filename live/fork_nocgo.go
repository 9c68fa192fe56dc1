//go:build !linux || !cgo

package live

import (
	"errors"
	"fmt"
	"unsafe"
)

type pointer = unsafe.Pointer

var forkInC pointer

var errNoCgo = fmt.Errorf("live: built without its fork in C, which needs Linux, a C compiler "+
	"and CGO_ENABLED=1: %w", errors.ErrUnsupported)
