package livepatch

import (
	"go/parser"
	"go/token"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnUnknownGoVersionIsRefusedByName(t *testing.T) {
	for _, version := range []string{"go1.23.4", "go1.27", "go1.241.0", "go1.2", "devel", ""} {
		_, err := Known(version)
		assert.ErrorContains(t, err, "the runtime of "+version+" is not known")
		_, err = For("runtime", version, false)
		assert.Error(t, err, version)
	}
}

func TestEachKnownVersionHasItsFiles(t *testing.T) {
	for _, version := range Versions {
		for pkg, count := range map[string]int{"runtime": 3, "syscall": 1, "os/signal": 1, "runtime/pprof": 1, "log": 1, "internal/runtime/exithook": 1, "net": 1, "net/http": 1, "testing": 1, "internal/testlog": 1, "forkshm.example/shm/live": 1, "os": 0} {
			added, err := For(pkg, version+".3", false)
			require.NoError(t, err)
			assert.Len(t, added, count, pkg)
			race, err := For(pkg, version+".3", true)
			require.NoError(t, err)
			assert.Len(t, race, count, pkg)
			for _, file := range append(added, race...) {
				_, err := parser.ParseFile(token.NewFileSet(), file.Name, file.Text, parser.AllErrors)
				assert.NoError(t, err)
			}
		}
	}
}
