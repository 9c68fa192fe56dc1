package livepatch

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"forkshm.example/shm/internal/livepatch/assumed"
)

// lockFile makes the file in which a package handles its locks around a fork.
// Before a fork the package takes the locks whose verdict is "taken". In a
// child it frees those, and the locks whose verdict is "reset", which another
// goroutine may have held. lockFile returns nil for most packages.
func lockFile(pkg, minor string) ([]byte, error) {
	list, err := assumed.List()
	if err != nil {
		return nil, err
	}
	var before, parent, child bytes.Buffer
	for _, fact := range list {
		lock, ok := strings.CutPrefix(fact.Name, pkg+".")
		if !ok || fact.Kind != "lock" || !slices.Contains(fact.Minors, minor) {
			continue
		}
		switch fact.Verdict {
		case "taken":
			fmt.Fprintf(&before, "\t\t\t%s.Lock()\n", lock)
			fmt.Fprintf(&parent, "\t\t\t%s.Unlock()\n", lock)
			fallthrough
		case "reset":
			fmt.Fprintf(&child, "\t\t\tlive_resetVar(unsafe.Pointer(&%s), unsafe.Sizeof(%s))\n",
				lock, lock)
		}
	}
	if child.Len() == 0 {
		return nil, nil
	}
	return fmt.Appendf(nil, lockFormat, path.Base(pkg), before.Bytes(), parent.Bytes(),
		child.Bytes()), nil
}

// lockFormat declares names that no file in this folder declares, since a
// package may get both.
const lockFormat = `package %s

import "unsafe"

//go:linkname live_atForkOfVars runtime.live_atFork
func live_atForkOfVars(before, parent, child func())

//go:linkname live_resetVar runtime.live_resetLock
func live_resetVar(p unsafe.Pointer, size uintptr)

func init() {
	live_atForkOfVars(
		func() {
%s		},
		func() {
%s		},
		func() {
%s		})
}
`
