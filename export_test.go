//go:build linux

package shm

import "unsafe"

// ControlPages returns how many children's control pages are mapped.
func ControlPages() int { return int(controlPages.Load()) }

// VMAsOfControlPage is how many lines of /proc/PID/maps a control page has, with its guards.
const VMAsOfControlPage = 3

// GoHeap says whether an address is in what Lean leaves out.
func GoHeap(addr uintptr) bool {
	for _, r := range goHeap() {
		if r.addr <= addr && addr < r.addr+r.length {
			return true
		}
	}
	return false
}

// MoveBack moves a plain mapping to where it was.
func MoveBack(m *Mapping, was unsafe.Pointer) { m.mem.moveBack(was, m.mem.length) }
