//go:build linux

package shm

import "unsafe"

// ReportMappings returns how many mappings hold the children's reports: they stay.
func ReportMappings() int {
	reports.Lock()
	defer reports.Unlock()
	return reports.chunks
}

// ReportsInUse returns how many reports are not given back.
func ReportsInUse() int {
	reports.Lock()
	defer reports.Unlock()
	return reports.chunks*((1<<16)/int(unsafe.Sizeof(report{}))) - len(reports.free)
}

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
