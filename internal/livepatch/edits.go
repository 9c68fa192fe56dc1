package livepatch

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
)

// Edit changes a line of a package's own source, where a file that is added
// cannot reach: Old stands in File exactly once, and becomes New.
type Edit struct{ File, Old, New string }

var edits = map[string][]Edit{
	// A leak checker tells the goroutines of a child from those that it
	// inherited. A child in which a test failed exits with status 1.
	"runtime": {
		{"traceback.go", `print(" [", status)`, `print(" [", status, liveInherited(gp))`},
		{"proc.go", `if exitCode == 0 && raceenabled {`, `if exitCode == 0 && !liveExitsWith1 && raceenabled {`},
		{"runtime.go", `exit(int32(code))`, `exit(liveStatus(int32(code)))`},
	},

	// Locks of a moment, which are inside values of the program's. In a child
	// they are free, whoever held them at the fork.
	"log": {{"log.go", `outMu sync.Mutex`, `outMu liveMutex`}},
	"log/slog": {
		{"handler.go", `*sync.Mutex`, `*liveMutex`},
		{"text_handler.go", `&sync.Mutex{}`, `&liveMutex{Mutex: sync.Mutex{}}`},
		{"json_handler.go", `&sync.Mutex{}`, `&liveMutex{Mutex: sync.Mutex{}}`},
	},

	// An added file has its own, which calls this one.
	"sync": {{"once.go", `func (o *Once) doSlow(f func()) {`, `func (o *Once) liveDoSlow(f func()) {`}},

	// The timer of an inherited context does not fire in a child. What the
	// child derives from such a context has a timer of its own.
	"context": {{"context.go", `ok && cur.Before(d) {`, `ok && cur.Before(d) && !liveSooner(cur, &d) {`}},

	// The name in the file system is that of the process that listens.
	"net": {
		{"unixsock.go", `unlinkOnce sync.Once`, `unlinkOnce sync.Once; live uint32`},
		{"unixsock_posix.go", `unlink: true}, nil`, `unlink: true, live: live_generation()}, nil`},
		{"unixsock_posix.go", `l.unlink = unlink`, `l.unlink, l.live = unlink, live_generation()`},
		{"unixsock_posix.go", `&& ln.unlink {`, `&& ln.unlink && ln.live == live_generation() {`},
	},

	// What fails in a child is not noted in the parent's memory.
	"testing": {
		{"testing.go", `c.failed = true`, `c.failed = true; c.liveFail()`},
		{"testing.go", `sync.RWMutex`, `liveRWMutex`},
	},
}

// EditsOf returns the files of a package that are changed, by their base names.
func EditsOf(pkg string) map[string]bool {
	changed := make(map[string]bool)
	for _, e := range edits[pkg] {
		changed[e.File] = true
	}
	return changed
}

// Apply returns a file of a package as it is compiled. path is where its
// source stands, for its lines to be reported there.
func Apply(pkg, path string, text []byte) ([]byte, error) {
	name := BaseName(path)
	for _, e := range edits[pkg] {
		if e.File != name {
			continue
		}
		if n := bytes.Count(text, []byte(e.Old)); n != 1 {
			return nil, fmt.Errorf("%s has %q %d times, not once: the patch was not checked against this version", path, e.Old, n)
		}
		text = bytes.Replace(text, []byte(e.Old), []byte(e.New), 1)
	}
	if !bytes.HasPrefix(text, []byte("//line ")) { // as go tool cover writes
		text = append(fmt.Appendf(nil, "//line %s:1\n", path), text...)
	}
	return text, nil
}

// BaseName returns the name under which EditsOf has a file that the compiler
// is given: go tool cover writes x.go as x.cover.go.
func BaseName(path string) string {
	name := filepath.Base(path)
	if plain, ok := strings.CutSuffix(name, ".cover.go"); ok {
		return plain + ".go"
	}
	return name
}
