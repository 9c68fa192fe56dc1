//go:build linux && cgo

package shm_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The example's copy of the header is of this version, as go generate makes it.
func TestExampleHasTheHeader(t *testing.T) {
	assert.Equal(t, string(must(os.ReadFile("csrc/shm_child.h"))),
		string(must(os.ReadFile("examples/thumbnail/shm_child.h"))))
}
