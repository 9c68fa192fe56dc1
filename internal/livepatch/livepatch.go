// Package livepatch holds the files that livego compiles into the standard
// library and into package live. The files are embedded as data, so that no
// other build compiles them.
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

	"forkshm.example/shm/internal/livepatch/assumed"
)

//go:embed *.go.txt livepatch.go edits.go locks.go assumed/facts.txt
var files embed.FS

// Versions are the Go versions against whose runtime the patch was checked. Any
// release of these versions can be used if it has what the patch assumes.
// CheckRuntime finds that out: see package assumed.
var Versions = []string{"go1.24", "go1.25", "go1.26", "go1.27"}

// Newest is the latest release that was tested, of the latest version.
const Newest = "go1.27.4"

// Known returns the element of Versions to which a Go version such as go1.25.3
// belongs.
func Known(version string) (string, error) {
	for _, v := range Versions {
		if rest, ok := strings.CutPrefix(version, v); ok &&
			(rest == "" || rest[0] == '.' || rest[0] == ' ' || rest[0] == '-') {
			return v, nil
		}
	}
	return "", fmt.Errorf("the runtime of %s is not known: livego knows those of %s. %s", version,
		strings.Join(Versions, ", "), WayOut)
}

// WayOut tells users what they can do if the patch is not for their Go.
const WayOut = "Build with a Go that this livego knows, by GOTOOLCHAIN=" + Newest + " livego ... " +
	"(the go line of go.mod must not ask for a later one), or get a later livego"

// CheckRuntime returns an error if the Go files of package runtime have
// something that the patch was not checked against.
func CheckRuntime(goVersion string, names []string) error {
	minor, err := Known(goVersion)
	if err != nil {
		return err
	}
	if err := assumed.CheckRuntime(minor, names); err != nil {
		return fmt.Errorf("%s: %w. %s", goVersion, err, WayOut)
	}
	return nil
}

// File is a file that is added to a package.
type File struct {
	Name string
	Text []byte
}

// packages has the packages to which files are added, with the prefixes of the
// files' names: runtime.go.txt and runtime_*.go.txt have the prefix runtime.
// Several packages get mutex.go.txt.
var packages = map[string][]string{
	"runtime":                   {"runtime"},
	"sync":                      {"sync"},
	"syscall":                   {"syscall"},
	"os/signal":                 {"signal"},
	"runtime/pprof":             {"pprof"},
	"runtime/trace":             {"trace"},
	"testing":                   {"testing", "mutex"},
	"internal/testlog":          {"testlog"},
	"internal/runtime/exithook": {"exithook"},
	"net":                       {"net"},
	"net/http":                  {"http"},
	"log":                       {"mutex"},
	"log/slog":                  {"mutex"},
	"context":                   {"context"},
	"internal/sync":             {"internalsync"},
	"unique":                    {"unique"},
	"encoding/json":             {"json"},
	"forkshm.example/shm/live":  {"live"},
}

// For returns the files that are added to a package. Most packages get none. A
// file is left out if its build constraint does not hold. The constraint may
// name Go versions and race, as in go1.25 && !go1.27 && race.
func For(pkg, goVersion string, race bool) ([]File, error) {
	minor, err := Known(goVersion)
	if err != nil {
		if len(packages[pkg]) == 0 {
			err = nil // a package of the program may be compiled without -goversion
		}
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
		added[i].Text = bytes.Replace(f.Text, []byte("\npackage PACKAGE\n"),
			[]byte("\npackage "+path.Base(pkg)+"\n"), 1)
	}
	locks, err := lockFile(pkg, minor)
	if locks != nil {
		added = append(added, File{"z_live_locks.go", locks})
	}
	return added, err
}

// filesNamed returns prefix.go.txt and prefix_*.go.txt, without the files whose
// build constraint does not hold.
func filesNamed(prefix, minor string, race bool) (added []File, err error) {
	names, err := fs.Glob(files, prefix+"*.go.txt") // sorted
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if rest := strings.TrimPrefix(name, prefix); rest[0] != '.' && rest[0] != '_' {
			continue // a file of another package
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

// constraintHolds evaluates the build constraint in the first line of a file.
// It returns true for a file that has none.
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

// Hash identifies the state of the patch, and of the rules for which packages
// get which files.
func Hash() string {
	h := sha256.New()
	names, _ := fs.Glob(files, "*") // sorted; the pattern is good
	for _, name := range append(names, "assumed/facts.txt") {
		text, _ := files.ReadFile(name)
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
