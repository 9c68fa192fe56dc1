package shm

import (
	"fmt"
	"path/filepath"
	"strings"
)

// callers returns the functions that led to the instruction of the record. Of
// each the child has written the address alone. The rest is what this process
// knows of its own modules. If the child knows which file it has there, that must
// be the same file.
func (r *crashRecord) callers() (callers []Frame) {
	var pcs []uintptr
	for i := range min(r.frames, maxFrames) {
		pcs = append(pcs, uintptr(r.frame[i].pc))
	}
	if len(pcs) == 0 {
		return nil
	}
	for i, m := range modulesAt(pcs...) {
		theirs := &r.frame[i]
		if r.state == crashLocated && (uintptr(theirs.base) != m.base || theirs.inode != m.inode) {
			m = module{}
		}
		callers = append(callers, m.frame(pcs[i]))
	}
	return callers
}

// frame returns the function of the module that goes on at pc. The call before pc
// may be the last instruction of the function.
func (m module) frame(pc uintptr) Frame {
	f := Frame{PC: pc}
	if m.name == "" {
		return f
	}
	table, name := symbolsOf(m.name)
	f.Module, f.Offset = printable(name), pc-m.base
	if symbol, start := table.Find(uint64(pc)-1, uint64(m.base)); symbol != "" {
		f.Symbol, f.Within = printable(symbol), pc-uintptr(start)
	}
	return f
}

// String returns the function in a form like "parse+0x1c", "libpng.so.16+0x4a3f"
// or "0x4a3f1c".
func (f Frame) String() string {
	switch {
	case f.Symbol != "":
		return fmt.Sprintf("%s+%#x", f.Symbol, f.Within)
	case f.Module != "":
		return fmt.Sprintf("%s+%#x", filepath.Base(f.Module), f.Offset)
	}
	return fmt.Sprintf("%#x", f.PC)
}

// calledBy returns the callers in the form ", called by abort+0xd3, parse+0x1c".
func calledBy(callers []Frame) string {
	if len(callers) == 0 {
		return ""
	}
	var names []string
	for _, f := range callers {
		names = append(names, f.String())
	}
	return ", called by " + strings.Join(names, ", ")
}
