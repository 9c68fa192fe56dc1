package livepatch

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"forkshm.example/shm/internal/livepatch/assumed"
)

// lockFile makes the file by which a package opens, in a child, those of its locks whose verdict is reset: another
// goroutine may have held them. It returns nil for most packages.
func lockFile(pkg, minor string) (*File, error) {
	list, err := assumed.List()
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	for _, fact := range list {
		lock, ok := strings.CutPrefix(fact.Name, pkg+".")
		if ok && fact.Kind == "lock" && fact.Verdict == "reset" && slices.Contains(fact.Minors, minor) {
			fmt.Fprintf(&body, "\t\tlive_resetVar(unsafe.Pointer(&%s), unsafe.Sizeof(%s))\n", lock, lock)
		}
	}
	if body.Len() == 0 {
		return nil, nil
	}
	return &File{"z_live_locks.go", fmt.Appendf(nil, lockFormat, path.Base(pkg), body.Bytes())}, nil
}

// Its names are not those of the files in this folder, which the same package may have.
const lockFormat = `package %s

import "unsafe"

//go:linkname live_atForkOfVars runtime.live_atFork
func live_atForkOfVars(before, parent, child func())

//go:linkname live_resetVar runtime.live_resetLock
func live_resetVar(p unsafe.Pointer, size uintptr)

func init() {
	live_atForkOfVars(nil, nil, func() {
%s	})
}
`
