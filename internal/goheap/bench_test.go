//go:build linux && cgo

package goheap

import "testing"

// BenchmarkRanges is what a Lean fork asks for, where the heap has not grown,
// and where it has.
func BenchmarkRanges(b *testing.B) {
	b.Run("grown=no", func(b *testing.B) {
		for b.Loop() {
			Ranges()
		}
	})
	b.Run("grown=yes", func(b *testing.B) {
		for b.Loop() {
			lookAgain()
		}
	})
}
