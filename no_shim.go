//go:build !linux || !cgo

package shm

import (
	"errors"
	"fmt"
)

// errNoShim is what calls return where there is no C.
var errNoShim = fmt.Errorf("this program was built without the C part of package shm "+
	"(build on Linux, with CGO_ENABLED=1 and a C compiler): %w",
	errors.ErrUnsupported)
