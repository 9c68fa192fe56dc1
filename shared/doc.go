// Package shared has locks in shared memory, for Go and C alike.
package shared

// Align is the alignment of each structure, in bytes. An offset must be a
// multiple of Align, and the mapping's address is one.
const Align = 64
