// Package livepatch holds the files that livego compiles into the standard library and into package
// live. As data, so that no other build sees them.
package livepatch

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed *.go.txt livepatch.go
var files embed.FS

// Versions are the Go versions whose runtime the patch has been checked against.
var Versions = []string{"go1.24", "go1.25", "go1.26"}

// Known returns that of Versions to which a Go version like go1.25.3 belongs.
func Known(version string) (string, error) {
	for _, v := range Versions {
		if rest, ok := strings.CutPrefix(version, v); ok && (rest == "" || rest[0] == '.' || rest[0] == ' ' || rest[0] == '-') {
			return v, nil
		}
	}
	return "", fmt.Errorf("the runtime of %s is not known, only of %s: live forks need one that the patch was checked against",
		version, strings.Join(Versions, ", "))
}

// File is one that is added to a package.
type File struct {
	Name string
	Text []byte
}

// For returns the files that are added to a package under a Go version, with the race detector or without; none for
// most packages.
func For(pkg, version string, race bool) ([]File, error) {
	var names []string
	switch pkg {
	case "runtime":
		v, err := Known(version)
		if err != nil {
			return nil, err
		}
		names = []string{"runtime.go.txt", "runtime_" + strings.TrimPrefix(v, "go") + ".go.txt", "runtime_norace.go.txt"}
		if race {
			names[2] = "runtime_race.go.txt"
		}
	case "syscall":
		names = []string{"syscall.go.txt"}
	case "os/signal":
		names = []string{"signal.go.txt"}
	case "runtime/pprof":
		names = []string{"pprof.go.txt"}
	case "testing":
		names = []string{"testing.go.txt"}
	case "internal/testlog":
		names = []string{"testlog.go.txt"}
	case "internal/runtime/exithook":
		names = []string{"exithook.go.txt"}
	case "net":
		names = []string{"net.go.txt"}
	case "net/http":
		names = []string{"http.go.txt"}
	case "log":
		names = []string{"log.go.txt"}
	case "forkshm.example/shm/live":
		names = []string{"live.go.txt"}
	}
	var added []File
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		added = append(added, File{"z_live_" + strings.TrimSuffix(name, ".txt"), text})
	}
	return added, nil
}

// Hash tells one state of the patch, and of which packages get what, from another.
func Hash() string {
	h := sha256.New()
	names, _ := fs.Glob(files, "*") // sorted; the pattern is good
	for _, name := range names {
		text, _ := files.ReadFile(name)
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
