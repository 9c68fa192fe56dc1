//go:build !linux || !cgo

package shared

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

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

type rwWay struct{}

var reads, writes rwWay

type rwmutex struct{}

func (*rwmutex) open(*shm.Mapping, int) error        { return errNoShim }
func (*rwmutex) lockBy(context.Context, rwWay) error { return errNoShim }
func (*rwmutex) tryLockBy(rwWay) error               { return errNoShim }
func (*rwmutex) unlockBy(rwWay) error                { return errNoShim }
func (*rwmutex) consistent() error                   { return errNoShim }

type semaphore struct{}

func (*semaphore) open(*shm.Mapping, int, int) error { return errNoShim }
func (*semaphore) acquire(context.Context) error     { return errNoShim }
func (*semaphore) tryAcquire() error                 { return errNoShim }
func (*semaphore) release() error                    { return errNoShim }

type event struct{}

func (*event) open(*shm.Mapping, int) error { return errNoShim }
func (*event) isSet() bool                  { return false }
func (*event) wait(context.Context) error   { return errNoShim }
func (*event) set()                         {}
func (*event) reset()                       {}

type barrier struct{}

func (*barrier) open(*shm.Mapping, int, int) error { return errNoShim }
func (*barrier) wait(context.Context) error        { return errNoShim }

type arena struct{}

func (*arena) open(*shm.Mapping, int, int) error             { return errNoShim }
func (*arena) mapping() *shm.Mapping                         { return nil }
func (*arena) at(uint64, uintptr, uintptr) unsafe.Pointer    { return nil }
func (*arena) alloc(uint64, *uint64) (unsafe.Pointer, error) { return nil, errNoShim }
func (*arena) free(*uint64) error                            { return errNoShim }
func (*arena) stats() (ArenaStats, error)                    { return ArenaStats{}, errNoShim }
func (*arena) check() error                                  { return errNoShim }

const producer, consumer = 0, 1

type recordRing struct{}

func (*recordRing) open(*shm.Mapping, int, int) error            { return errNoShim }
func (*recordRing) max() int                                     { return 0 }
func (*recordRing) reserve(context.Context, int) ([]byte, error) { return nil, errNoShim }
func (*recordRing) commit() error                                { return errNoShim }
func (*recordRing) peek(context.Context) ([]byte, error)         { return nil, errNoShim }
func (*recordRing) release() error                               { return errNoShim }
func (*recordRing) closeEnd(int) error                           { return errNoShim }
func (*recordRing) watch(*shm.Process)                           {}
