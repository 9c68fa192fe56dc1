//go:build !linux || !cgo

package shared

import (
	"context"
	"errors"
	"fmt"

	"forkshm.example/shm"
)

// This file declares what the structures need where there is no C or no Linux. There the
// constructors always fail, and so no method is called.

var errNoShim = fmt.Errorf("this program was built without the C part of package shared "+
	"(build on Linux, with CGO_ENABLED=1 and a C compiler): %w", errors.ErrUnsupported)

type mutex struct{}

func (*mutex) open(*shm.Mapping, int) error { return errNoShim }
func (*mutex) lock(context.Context) error   { return errNoShim }
func (*mutex) tryLock() error               { return errNoShim }
func (*mutex) consistent() error            { return errNoShim }
func (*mutex) unlock() error                { return errNoShim }
