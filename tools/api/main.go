// Api fails if the project's exported API has lost anything since a revision.
//
//	go -C tools run ./api REVISION
//
// Programs outside are built against the exported names, so that a change may
// add to them and nothing else. Packages that are new since the revision are
// left out, as are internal ones and commands.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/exp/apidiff"
	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: api REVISION")
		os.Exit(2)
	}
	lost, err := compare(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(2)
	}
	if lost > 0 {
		os.Exit(1)
	}
}

// compare prints what was lost since a revision, and returns how much.
func compare(revision string) (lost int, err error) {
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := checkOut(revision, dir); err != nil {
		return 0, err
	}
	before, err := load(dir)
	if err != nil {
		return 0, err
	}
	now, err := load("..")
	if err != nil {
		return 0, err
	}
	for path, old := range before {
		current := now[path]
		if current == nil {
			fmt.Printf("%s: the package is gone\n", path)
			lost++
			continue
		}
		for _, c := range apidiff.Changes(old.Types, current.Types).Changes {
			if !c.Compatible {
				fmt.Printf("%s: %s\n", path, c.Message)
				lost++
			}
		}
	}
	return lost, nil
}

// checkOut writes the files of a revision to a folder.
func checkOut(revision, dir string) error {
	archive := exec.Command("git", "-C", "..", "archive", "--format=tar", revision)
	tar, err := archive.Output()
	if err != nil {
		return fmt.Errorf("git archive %s: %w (is the clone a shallow one?)", revision, err)
	}
	extract := exec.Command("tar", "-x", "-C", dir)
	extract.Stdin = bytes.NewReader(tar)
	return extract.Run()
}

// load returns the packages that programs outside can import, by their paths.
func load(dir string) (map[string]*packages.Package, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	const mode = packages.NeedName | packages.NeedTypes | packages.NeedImports | packages.NeedExportFile
	pkgs, err := packages.Load(&packages.Config{Mode: mode, Dir: dir}, "./...")
	if err != nil {
		return nil, err
	}
	public := map[string]*packages.Package{}
	for _, p := range pkgs {
		if p.Name == "main" || strings.Contains(p.PkgPath, "/internal/") {
			continue
		}
		if len(p.Errors) > 0 {
			return nil, fmt.Errorf("%s: %v", p.PkgPath, p.Errors[0])
		}
		public[p.PkgPath] = p
	}
	return public, nil
}
