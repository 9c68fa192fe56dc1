//go:build !linux || !cgo

package shm

import "unsafe"

// Mmap returns an error that wraps [errors.ErrUnsupported].
func Mmap(addr unsafe.Pointer, length, prot, flags, fd int, offset int64) (unsafe.Pointer, error) {
	return nil, errNoShim
}

// Munmap returns an error that wraps [errors.ErrUnsupported].
func Munmap(addr unsafe.Pointer, length int) error { return errNoShim }

// Mremap returns an error that wraps [errors.ErrUnsupported].
func Mremap(oldAddr unsafe.Pointer, oldLength, newLength, flags int,
	newAddr unsafe.Pointer) (unsafe.Pointer, error) {
	return nil, errNoShim
}

// Fork returns an error that wraps [errors.ErrUnsupported].
func Fork(child ChildFunc, addr unsafe.Pointer, length int) (pid int, err error) {
	return 0, errNoShim
}

// Waitpid returns an error that wraps [errors.ErrUnsupported].
func Waitpid(pid, options int) (wpid int, status waitStatus, err error) {
	err = errNoShim
	return
}

const defaultTechnique = BuildDefault // no technique: see DefaultTechnique

func mapMemory(Technique, Sharing, int) (unsafe.Pointer, error) { return nil, errNoShim }
