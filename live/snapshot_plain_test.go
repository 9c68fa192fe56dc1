//go:build linux && cgo && !livego

package live_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
)

func TestSnapshotSaysThatTheRuntimeIsNotPatched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	nothing := func(io.Writer) error { return nil }
	_, err := live.Snapshot(path, nothing)
	assert.ErrorIs(t, err, live.ErrNotPatched)
	_, err = live.SnapshotTo(io.Discard, nothing)
	assert.ErrorIs(t, err, live.ErrNotPatched)
	_, err = os.Lstat(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
}
