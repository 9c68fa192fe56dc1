//go:build linux && cgo && livego && go1.25

package live_test

import (
	"testing"
	"testing/synctest"

	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
)

func TestNoForkInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := live.Fork()
		assert.ErrorIs(t, err, live.ErrSynctest)
	})
}
