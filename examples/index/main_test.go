//go:build linux && cgo

package main

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNothingAcknowledgedIsLost(t *testing.T) {
	_, err := os.ReadFile("index.c") // the go command caches no result of a test whose files have changed
	require.NoError(t, err)
	x, err := newIndex()
	require.NoError(t, err)
	defer func() { assert.NoError(t, x.m.Close()) }()
	goal, killed := 0, int64(0)
	for killed < 20 {
		goal += 500
		kills, err := x.run(t.Context(), goal, 200*time.Microsecond)
		require.NoError(t, err)
		stats, err := x.check()
		require.NoError(t, err)
		assert.Equal(t, 2*workers*goal, stats.Used)
		killed += kills
	}
	t.Logf("%d children killed, %d strings", killed, workers*goal)
}
