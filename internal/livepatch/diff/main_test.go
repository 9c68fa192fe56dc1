//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm/internal/livepatch"
)

// The diff turns a release's sources into what is compiled.
func TestTheDiffIsWhatIsCompiled(t *testing.T) {
	for _, tool := range []string{"diff", "patch"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	diff, err := run(nil)
	require.NoError(t, err)
	goroot, err := gorootOf(nil)
	require.NoError(t, err)
	before, after, err := livepatch.Tree(goroot, runtime.Version())
	require.NoError(t, err)
	assert.Contains(t, before, "runtime/traceback.go")
	assert.Contains(t, after, "runtime/z_live_runtime.go")
	assert.Contains(t, after, "runtime/z_live_runtime_race.go")
	assert.Contains(t, after, "mime/z_live_locks.go")

	dir := t.TempDir()
	require.NoError(t, write(filepath.Join(dir, "src"), before))
	cmd := exec.Command("patch", "-p1", "--quiet")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(diff)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for name, want := range after {
		got, err := os.ReadFile(filepath.Join(dir, "src", name))
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), name)
	}
	again, err := run([]string{goroot})
	require.NoError(t, err)
	assert.Equal(t, string(diff), string(again))
	assert.Equal(t, len(after), strings.Count(string(diff), "\n+++ b/src/"))
}
