package livepatch

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"forkshm.example/shm/internal/livepatch/assumed"
)

// Tree returns the files of GOROOT/src that the patch adds or changes under a Go
// version, by their paths below GOROOT/src: as they are, nil for one that is
// added, and as they are compiled. Files for builds with the race detector and
// without are among them.
func Tree(goroot, goVersion string) (before, after map[string][]byte, err error) {
	before, after = map[string][]byte{}, map[string][]byte{}
	pkgs, err := standardPackages()
	if err != nil {
		return nil, nil, err
	}
	for _, pkg := range pkgs {
		for _, race := range []bool{false, true} {
			added, err := For(pkg, goVersion, race)
			if err != nil {
				return nil, nil, err
			}
			for _, file := range added {
				after[filepath.Join(pkg, file.Name)] = file.Text
			}
		}
		for name := range EditsOf(pkg, goVersion) {
			path := filepath.Join(goroot, "src", pkg, name)
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, nil, err
			}
			edited, err := Apply(pkg, path, text)
			if err != nil {
				return nil, nil, err
			}
			name = filepath.Join(pkg, name)
			before[name] = text
			_, after[name], _ = bytes.Cut(edited, []byte("\n")) // without its //line
		}
	}
	return before, after, nil
}

// standardPackages returns the packages of the standard library that the patch
// changes.
func standardPackages() ([]string, error) {
	pkgs := map[string]bool{}
	for pkg := range packages {
		pkgs[pkg] = !strings.Contains(pkg, ".")
	}
	for pkg := range edits {
		pkgs[pkg] = true
	}
	list, err := assumed.List()
	if err != nil {
		return nil, err
	}
	for _, fact := range list {
		if i := strings.LastIndexByte(fact.Name, '.'); fact.Kind == "lock" && i > 0 {
			pkgs[fact.Name[:i]] = true
		}
	}
	maps.DeleteFunc(pkgs, func(_ string, standard bool) bool { return !standard })
	return slices.Sorted(maps.Keys(pkgs)), nil
}
