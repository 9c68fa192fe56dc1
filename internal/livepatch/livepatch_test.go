package livepatch

import (
	"bytes"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnUnknownGoVersionIsRefusedByName(t *testing.T) {
	for _, version := range []string{"go1.23.4", "go1.99", "go1.241.0", "go1.2", "devel", ""} {
		_, err := Known(version)
		assert.ErrorContains(t, err, "the runtime of "+version+" is not known")
		assert.ErrorContains(t, err, "GOTOOLCHAIN="+Newest+" livego ")
		_, err = For("runtime", version, false)
		assert.Error(t, err, version)
	}
}

func TestEachKnownVersionHasItsFiles(t *testing.T) {
	for _, version := range Versions {
		for pkg, prefixes := range packages {
			if pkg == "encoding/json" && version != "go1.24" {
				prefixes = nil // which has its encoders in Onces
			}
			added, err := For(pkg, version+".3", false)
			require.NoError(t, err)
			race, err := For(pkg, version+".3", true)
			require.NoError(t, err)
			assert.Len(t, race, len(added), pkg)
			for _, list := range [][]File{added, race} {
				for _, prefix := range prefixes {
					assert.Contains(t, names(list), "z_live_"+prefix+".go")
				}
			}
			for _, file := range append(added, race...) {
				_, err := parser.ParseFile(token.NewFileSet(), file.Name, file.Text,
					parser.AllErrors)
				assert.NoError(t, err)
			}
		}
		added, err := For("strings", version, false)
		require.NoError(t, err)
		assert.Empty(t, added)
	}
}

func TestBuildConstraintsSelectFiles(t *testing.T) {
	for _, c := range []struct {
		version     string
		race        bool
		has, hasNot string
	}{
		{"go1.24.9", false, "z_live_runtime_1.24.go", "z_live_runtime_1.25.go"},
		{"go1.25.3", false, "z_live_runtime_1.25.go", "z_live_runtime_1.26.go"},
		{"go1.26.8", false, "z_live_runtime_1.26.go", "z_live_runtime_initdone_1.27.go"},
		{"go1.27.4", false, "z_live_runtime_initdone_1.27.go", "z_live_runtime_initdone_1.24.go"},
		{"go1.27.4", true, "z_live_runtime_race.go", "z_live_runtime_norace.go"},
	} {
		added, err := For("runtime", c.version, c.race)
		require.NoError(t, err)
		assert.Contains(t, names(added), c.has)
		assert.NotContains(t, names(added), c.hasNot)
	}
	_, err := constraintHolds([]byte("//go:build go1.25 ||\n"), "go1.26", false)
	assert.Error(t, err)
}

func TestPackagesOpenTheirLocksInAChild(t *testing.T) {
	added, err := For("encoding/gob", "go1.26.8", false)
	require.NoError(t, err)
	require.Equal(t, []string{"z_live_locks.go"}, names(added))
	assert.Contains(t, string(added[0].Text), "package gob\n")
	for _, want := range []string{"\ttypeLock.Lock()\n", "\ttypeLock.Unlock()\n",
		"live_resetVar(unsafe.Pointer(&typeLock), unsafe.Sizeof(typeLock))\n"} {
		assert.Contains(t, string(added[0].Text), want)
	}
	_, err = parser.ParseFile(token.NewFileSet(), added[0].Name, added[0].Text, parser.AllErrors)
	assert.NoError(t, err)

	for version, count := range map[string]int{"go1.26.8": 0, "go1.27.4": 1} {
		added, err := For("uuid", version, false)
		require.NoError(t, err)
		assert.Len(t, added, count, "the package is new in Go 1.27")
	}
}

func names(added []File) (names []string) {
	for _, file := range added {
		names = append(names, file.Name)
	}
	return names
}

// The source of this very Go version.
func TestEachEditAppliesOnce(t *testing.T) {
	for pkg, list := range edits {
		assert.Contains(t, packages, pkg, "what is edited calls what is added")
		changed := EditsOf(pkg, runtime.Version())
		for _, e := range list {
			if !changed[e.File] { // this Go version needs no edit there
				continue
			}
			path := filepath.Join(build.Default.GOROOT, "src", filepath.FromSlash(pkg), e.File)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			edited, err := Apply(pkg, path, text)
			require.NoError(t, err)
			assert.Contains(t, string(edited), e.New)
			assert.Equal(t, "//line "+path+":1\n", string(edited[:len(path)+len("//line :1\n")]))
			assert.Equal(t, bytes.Count(text, []byte("\n"))+1, bytes.Count(edited, []byte("\n")),
				"lines keep their numbers")

			covered, err := Apply(pkg, "x/"+strings.TrimSuffix(e.File, ".go")+".cover.go",
				append([]byte("//line y.go:1\n"), text...))
			require.NoError(t, err)
			assert.Contains(t, string(covered), e.New)
			assert.NotContains(t, string(covered), "//line x")

			_, err = Apply(pkg, path, bytes.ReplaceAll(text, []byte(e.Old), nil))
			assert.ErrorContains(t, err,
				"0 times, not once: the patch was not checked against this version")
		}
	}
	assert.Empty(t, EditsOf("os", "go1.26.8"))
	assert.NotEmpty(t, EditsOf("unique", "go1.25.3"))
	assert.Empty(t, EditsOf("unique", "go1.24.9"))
}
