// Package livepatch holds the files that livego compiles into the standard library and into package
// live. As data, so that no other build sees them.
package livepatch

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"go/build/constraint"
	"go/version"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed *.go.txt livepatch.go edits.go
var files embed.FS

// Versions are the Go versions whose runtime the patch has been checked against.
var Versions = []string{"go1.24", "go1.25", "go1.26", "go1.27"}

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

// packages has the packages that files are added to. The files of a package are named after it: runtime.go.txt
// and runtime_*.go.txt. Several have mutex.go.txt.
var packages = map[string][]string{
	"runtime":                   {"runtime"},
	"sync":                      {"sync"},
	"syscall":                   {"syscall"},
	"os/signal":                 {"signal"},
	"runtime/pprof":             {"pprof"},
	"testing":                   {"testing", "mutex"},
	"internal/testlog":          {"testlog"},
	"internal/runtime/exithook": {"exithook"},
	"net":                       {"net"},
	"net/http":                  {"http"},
	"log":                       {"mutex"},
	"log/slog":                  {"mutex"},
	"context":                   {"context"},
	"forkshm.example/shm/live":  {"live"},
}

// For returns the files that are added to a package under a Go version, with the race detector or without; none for
// most packages. A file is left out where its build constraint does not hold: it may name Go versions, as in
// go1.25 && !go1.27, and race.
func For(pkg, goVersion string, race bool) ([]File, error) {
	if len(packages[pkg]) == 0 {
		return nil, nil
	}
	minor, err := Known(goVersion)
	if err != nil {
		return nil, err
	}
	var added []File
	for _, prefix := range packages[pkg] {
		files, err := filesNamed(prefix, minor, race)
		if err != nil {
			return nil, err
		}
		added = append(added, files...)
	}
	for i, f := range added {
		added[i].Text = bytes.Replace(f.Text, []byte("\npackage PACKAGE\n"), []byte("\npackage "+path.Base(pkg)+"\n"), 1)
	}
	return added, nil
}

// filesNamed returns prefix.go.txt and prefix_*.go.txt, those whose build constraints hold.
func filesNamed(prefix, minor string, race bool) (added []File, err error) {
	names, err := fs.Glob(files, prefix+"*.go.txt") // sorted
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if rest := strings.TrimPrefix(name, prefix); rest[0] != '.' && rest[0] != '_' {
			continue // another package's
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if holds, err := constraintHolds(text, minor, race); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		} else if holds {
			added = append(added, File{"z_live_" + strings.TrimSuffix(name, ".txt"), text})
		}
	}
	return added, nil
}

// constraintHolds evaluates the build constraint in the first line of a file. A file without one is for all.
func constraintHolds(text []byte, minor string, race bool) (bool, error) {
	line, _, _ := strings.Cut(string(text), "\n")
	if !constraint.IsGoBuild(line) {
		return true, nil
	}
	expr, err := constraint.Parse(line)
	if err != nil {
		return false, err
	}
	return expr.Eval(func(tag string) bool {
		if tag == "race" {
			return race
		}
		return slices.Contains(Versions, tag) && version.Compare(tag, minor) <= 0
	}), nil
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
