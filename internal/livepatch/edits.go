package livepatch

import (
	"bytes"
	"fmt"
	"go/version"
	"path/filepath"
	"strings"
)

// Edit changes a line of a package's own source, for what an added file cannot
// do. Old stands in File exactly once, and becomes New.
type Edit struct{ File, Old, New string }

var edits = map[string][]Edit{
	// A leak checker tells the goroutines of a child from those that it
	// inherited. A child in which a test failed exits with status 1.
	"runtime": {
		{"traceback.go", `print(" [", status)`, `print(" [", status, liveInherited(gp))`},
		{"proc.go", `if exitCode == 0 && raceenabled {`,
			`if exitCode == 0 && !liveExitsWith1 && raceenabled {`},
		{"runtime.go", `exit(int32(code))`, `exit(liveStatus(int32(code)))`},

		// No fork comes after a goroutine was taken out of a semaphore's queue and
		// before it is ready. In the child a goroutine of the runtime that stood
		// there would wake one of the program's, and one of the runtime's for which
		// a frozen goroutine stood there would never be woken.
		{"sema.go", "\tunlock(&root.lock)\n\tif s != nil {",
			"\tmp := acquirem(); unlock(&root.lock)\n\tif s == nil { releasem(mp) } else {"},
		{"sema.go", `readyWithTime(s, 5+skipframes)`,
			`readyWithTime(s, 5+skipframes); releasem(mp)`},
	},

	// These locks are inside values of the program, and goroutines hold them for
	// a moment. In a child they are free, whoever held them at the fork.
	"log": {{"log.go", `outMu sync.Mutex`, `outMu liveMutex`}},
	"log/slog": {
		{"handler.go", `*sync.Mutex`, `*liveMutex`},
		{"text_handler.go", `&sync.Mutex{}`, `&liveMutex{Mutex: sync.Mutex{}}`},
		{"json_handler.go", `&sync.Mutex{}`, `&liveMutex{Mutex: sync.Mutex{}}`},
	},

	// An added file has its own Once.doSlow, which calls this one.
	"sync": {
		{"once.go", `func (o *Once) doSlow(f func()) {`, `func (o *Once) liveDoSlow(f func()) {`},
		{"pool.go", `allPoolsMu Mutex`, `allPoolsMu liveMutex`},
	},

	// The nodes of these maps have locks, which are free in a child. So a map
	// must be whole between any two instructions of a goroutine that holds one.
	// An operation changes a map by one store. Only the removal of an empty node
	// takes two stores, and the edits exchange them: a goroutine that adds to a
	// node that is marked dead, while the parent node still has it, would begin
	// again for ever.
	"internal/sync": {
		{"hashtriemap.go", "initMu   Mutex\n", "initMu   LiveMutex\n"},
		{"hashtriemap.go", "mu       Mutex //", "mu       LiveMutex //"},
		{"hashtriemap.go", markDead + removeChild + unlockNodes + "\treturn v, true\n",
			removeChild + markDead + unlockNodes + "\treturn v, true\n"},
		{"hashtriemap.go", markDead + removeChild + unlockNodes + "\treturn true\n",
			removeChild + markDead + unlockNodes + "\treturn true\n"},
	},
	"unique": {
		{"canonmap.go", "\t\"sync\"\n", "\n"},
		{"canonmap.go", "mu       sync.Mutex //", "mu       liveMutex //"},
		{"canonmap.go", markDeadInUnique + "\t\t" + removeChild, "\t\t" + removeChild +
			markDeadInUnique},
	},

	// The timer of an inherited context does not fire in a child. A context that
	// the child derives from it gets a timer of its own.
	"context": {{"context.go", `ok && cur.Before(d) {`,
		`ok && cur.Before(d) && !liveSooner(cur, &d) {`}},

	// The file of a Unix listener belongs to the process that listens.
	"net": {
		{"unixsock.go", `unlinkOnce sync.Once`, `unlinkOnce sync.Once; live uint32`},
		{"unixsock_posix.go", `unlink: true}, nil`, `unlink: true, live: live_generation()}, nil`},
		{"unixsock_posix.go", `l.unlink = unlink`, `l.unlink, l.live = unlink, live_generation()`},
		{"unixsock_posix.go", `&& ln.unlink {`, `&& ln.unlink && ln.live == live_generation() {`},
	},

	// A failure in a child is not noted in the parent's memory.
	"testing": {
		{"testing.go", `c.failed = true`, `c.failed = true; c.liveFail()`},
		{"testing.go", `sync.RWMutex`, `liveRWMutex`},
	},
}

const (
	markDead         = "\t\ti.dead.Store(true)\n"
	markDeadInUnique = "\t\t\t\ti.dead.Store(true) // Could be done outside of parent's lock.\n"
	removeChild      = "\t\tparent.children[(hash>>hashShift)&nChildrenMask].Store(nil)\n"
	unlockNodes      = "\t\ti.mu.Unlock()\n\t\ti = parent\n\t}\n\ti.mu.Unlock()\n"
)

// editedSince has the packages that need no edits before a Go version. In Go
// 1.24, the values of package unique are in a HashTrieMap.
var editedSince = map[string]string{"unique": "go1.25"}

// EditsOf returns the base names of the files of a package that are changed.
func EditsOf(pkg, goVersion string) map[string]bool {
	changed := make(map[string]bool)
	if since, ok := editedSince[pkg]; ok && version.Compare(goVersion, since) < 0 {
		return changed
	}
	for _, e := range edits[pkg] {
		changed[e.File] = true
	}
	return changed
}

// Apply returns a file of a package as it is compiled. path is the name of the
// source file that the compiler is to report.
func Apply(pkg, path string, text []byte) ([]byte, error) {
	name := BaseName(path)
	for _, e := range edits[pkg] {
		if e.File != name {
			continue
		}
		if n := bytes.Count(text, []byte(e.Old)); n != 1 {
			return nil, fmt.Errorf("%s has %q %d times, not once: the patch was not checked "+
				"against this version", path, e.Old, n)
		}
		text = bytes.Replace(text, []byte(e.Old), []byte(e.New), 1)
	}
	if !bytes.HasPrefix(text, []byte("//line ")) { // as go tool cover writes
		text = append(fmt.Appendf(nil, "//line %s:1\n", path), text...)
	}
	return text, nil
}

// BaseName returns the name that EditsOf uses for a file that the compiler
// reads. go tool cover writes x.go as x.cover.go.
func BaseName(path string) string {
	name := filepath.Base(path)
	if plain, ok := strings.CutSuffix(name, ".cover.go"); ok {
		return plain + ".go"
	}
	return name
}
