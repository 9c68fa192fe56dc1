package hook

import "unsafe"

// An owner is the number by which a process holds the locks of package shared.
// 0 is no owner. Package shared sets these variables, and package shm uses them.
// A program that does not use package shared gives its children no owners.
var (
	// NewOwner returns an owner for a child that will be forked.
	NewOwner = func() (owner uint32) { return 0 }

	// OwnerEnded is called once a child was reaped, or was not forked after all.
	// result is what Wait returns for the child.
	OwnerEnded = func(owner uint32, result error) {}
)

// SetOwner is called in a child, and says which owner the child is. Package shm
// sets the variable.
var SetOwner = func(owner uint32) {}

// View calls f with the address and the length of a *shm.Mapping, which stays as
// it is meanwhile. View returns false, and does not call f, if the mapping is
// closed. Package shm sets the variable, and package shared uses it.
var View func(mapping any, f func(addr unsafe.Pointer, length int)) bool
