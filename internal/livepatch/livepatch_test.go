package livepatch

import (
	"go/parser"
	"go/token"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnUnknownGoVersionIsRefusedByName(t *testing.T) {
	for _, version := range []string{"go1.23.4", "go1.99", "go1.241.0", "go1.2", "devel", ""} {
		_, err := Known(version)
		assert.ErrorContains(t, err, "the runtime of "+version+" is not known")
		_, err = For("runtime", version, false)
		assert.Error(t, err, version)
	}
}

func TestEachKnownVersionHasItsFiles(t *testing.T) {
	for _, version := range Versions {
		for pkg, prefix := range packages {
			added, err := For(pkg, version+".3", false)
			require.NoError(t, err)
			race, err := For(pkg, version+".3", true)
			require.NoError(t, err)
			assert.Len(t, race, len(added), pkg)
			for _, list := range [][]File{added, race} {
				assert.Contains(t, names(list), "z_live_"+prefix+".go")
			}
			for _, file := range append(added, race...) {
				_, err := parser.ParseFile(token.NewFileSet(), file.Name, file.Text, parser.AllErrors)
				assert.NoError(t, err)
			}
		}
		added, err := For("os", version, false)
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

func names(added []File) (names []string) {
	for _, file := range added {
		names = append(names, file.Name)
	}
	return names
}
