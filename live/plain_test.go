//go:build linux && cgo && !livego

package live_test

import (
	"context"
	"strings"
	"testing"

	"forkshm.example/shm/internal/livepatch"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
)

// Plain go builds this test. The tests of forks have the build tag livego: see
// make live.
func TestForkSaysThatTheRuntimeIsNotPatched(t *testing.T) {
	assert.False(t, live.Patched())
	_, err := live.Fork()
	assert.ErrorIs(t, err, live.ErrNotPatched)
	_, err = live.Go(func() int { return 0 })
	assert.ErrorIs(t, err, live.ErrNotPatched)
	versions := livepatch.Versions // livego refuses others, so the error names them
	assert.ErrorContains(t, err, "Go "+strings.TrimPrefix(versions[0], "go")+" to "+
		strings.TrimPrefix(versions[len(versions)-1], "go"))
}

func TestCallSaysThatTheRuntimeIsNotPatched(t *testing.T) {
	_, err := live.Call(context.Background(), func() (int, error) { return 1, nil })
	assert.ErrorIs(t, err, live.ErrNotPatched)
}
