//go:build linux && cgo

package build_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/testenv"
)

// sandboxLibraries are libraries that parse, the packages of Debian that have them, and how a
// program is linked with them. testdata/libraries has what they do.
var sandboxLibraries = []struct {
	name, debian string
	paths        []shm.PathRule // what the library opens
}{
	{name: "zlib", debian: "zlib1g-dev"},
	{name: "png", debian: "libpng-dev"},
	{name: "jpeg", debian: "libjpeg-dev"},
	{name: "webp", debian: "libwebp-dev"},
	{name: "expat", debian: "libexpat1-dev"},
	{"sqlite3", "libsqlite3-dev", []shm.PathRule{{Path: "/dev/urandom"}}},
	{name: "freetype2", debian: "libfreetype-dev"},
}

// linked says how to link with a library whose name is another there.
var linked = map[string][]string{
	"zlib": {"-lz"}, "freetype2": {"-lfreetype", "-I/usr/include/freetype2"},
}

// compileLibrary compiles what a library does, and returns the function that does it.
func compileLibrary(t *testing.T, name, debian string) shm.ChildFunc {
	t.Helper()
	testenv.NeedCC(t)
	testenv.NeedDynamic(t)
	object := filepath.Join(t.TempDir(), name+".so")
	args := []string{"-shared", "-fPIC", "-O2", "-Wall", "-o", object,
		filepath.Join("tests/build/testdata/libraries", name+".c")}
	if how := linked[name]; how != nil {
		args = append(args, how...)
	} else {
		args = append(args, "-l"+name)
	}
	out, err := exec.Command(testenv.CC(), args...).CombinedOutput()
	if err != nil {
		text := string(out)
		if strings.Contains(text, "No such file or directory") ||
			strings.Contains(text, "cannot find") {
			t.Skipf("the library is not installed (Debian: %s)", debian)
		}
		require.NoError(t, err, "%s", out)
	}
	work := ctest.Function(object, "work")
	if work == nil {
		t.Skipf("%s is for another C library than this program", debian)
	}
	return work
}

// input returns a mapping for a library: a font, or memory that it does not need.
func input(t *testing.T, name string) *shm.Mapping {
	t.Helper()
	bytes := make([]byte, 4096)
	if name == "freetype2" {
		fonts, _ := filepath.Glob("/usr/share/fonts/truetype/*/*.ttf")
		if len(fonts) == 0 {
			t.Skip("there is no font (Debian: fonts-dejavu-core)")
		}
		bytes = must(os.ReadFile(fonts[0]))
	}
	m, err := shm.Map(shm.Shared, len(bytes), nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	copy(m.Bytes(), bytes)
	return m
}

// Libraries that parse what strangers send work in a sandbox, as they are.
func TestLibrariesInASandbox(t *testing.T) {
	testenv.NeedTime(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, library := range sandboxLibraries {
		t.Run(library.name, func(t *testing.T) {
			work, m := compileLibrary(t, library.name, library.debian), input(t, library.name)
			require.NoError(t, shm.Call(ctx, work, m, nil), "it works at all")
			for _, deny := range []shm.Deny{shm.Report, shm.Errno, shm.Kill} {
				for _, kill := range []bool{false, true} { // with and without libc's main arena
					cfg := &shm.ForkConfig{KillWithParent: kill, Lean: true,
						Sandbox: &shm.Sandbox{Paths: library.paths, OnDeny: deny, Optional: true}}
					assert.NoError(t, shm.Call(ctx, work, m, cfg), "OnDeny %d, %v", deny, kill)
				}
			}
		})
	}
}
