//go:build linux

package hugepage

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSizesArePowersOfTwo(t *testing.T) {
	for _, size := range []int{Transparent(), Explicit()} {
		assert.Greater(t, size, os.Getpagesize())
		assert.Zero(t, size&(size-1))
	}
	assert.Equal(t, Transparent(), askTransparent())
	assert.Equal(t, Explicit(), askExplicit())
}

func TestPowerOfTwo(t *testing.T) {
	for text, want := range map[string]int{"2097152\n": 2 << 20, "  2048 ": 2048,
		"536870912": 512 << 20, "": 0, "0": 0, "3": 0, "-2": 0,
		"+2": 0, "18446744073709551616": 0, "2 kB": 0} {
		assert.Equal(t, want, powerOfTwo(text), "%q", text)
	}
}
