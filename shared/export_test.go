//go:build linux && cgo

package shared

import (
	"context"
	"unsafe"
)

// Gate has the methods of a gate at an address.
type Gate struct{ g *gate }

func GateAt(addr *[2]uint32) Gate { return Gate{(*gate)(unsafe.Pointer(addr))} }

func (g Gate) Wait(ctx context.Context, ready func() bool) error { return g.g.wait(ctx, ready) }
func (g Gate) Wake()                                             { g.g.wake() }
