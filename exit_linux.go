package shm

import (
	"cmp"
	"debug/elf"
	"fmt"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ExitError says how a child ended that did not exit with status 0.
type ExitError struct {
	Pid    int
	Status unix.WaitStatus
	Crash  *Crash // where, if it died of a signal that its crash report tells of

	// CalledGo: the child ended, with status 2, as its C called an exported Go function. A forked child has one
	// thread, and so no Go runtime: it can run C alone.
	CalledGo bool
}

// Crash says where a child was when it died of SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGABRT.
type Crash struct {
	Code int32   // si_code, see sigaction(2): 0 or less where a process sent the signal, itself included
	Addr uintptr // of a fault, the address that faulted; 0 where the processor does not tell, and where the signal was sent
	PC   uintptr // the instruction; 0 if the architecture is not known

	Module string  // the file that this is from, as the child had it; empty if from none
	Offset uintptr // of PC, from where the module begins in memory, in bytes
	Symbol string  // the function that it is in, if the module exports it or has a symbol table
	Within uintptr // of PC, from the symbol, in bytes
}

// Error returns, say, "child 4711: exit status 3", or "child 4711: signal: segmentation fault (core
// dumped), address 0x10, at parse+0x1c (/usr/bin/server+0x4a3f1c)". There is no address where none faulted.
func (e *ExitError) Error() string {
	if !e.Status.Signaled() {
		s := fmt.Sprintf("child %d: exit status %d", e.Pid, e.Status.ExitStatus())
		if e.CalledGo {
			s += ": the child called Go, but a forked child can run C alone"
		}
		return s
	}
	s := fmt.Sprintf("child %d: signal: %v", e.Pid, e.Status.Signal())
	if e.Status.CoreDump() {
		s += " (core dumped)"
	}
	if e.Crash == nil {
		return s
	}
	if e.Crash.Code > 0 && e.Crash.Code != siKernel { // a fault
		s += fmt.Sprintf(", address %#x", e.Crash.Addr)
	}
	if e.Crash.PC != 0 || e.Crash.Code > 0 {
		s += fmt.Sprintf(", at %v", e.Crash)
	}
	return s
}

const siKernel = 0x80 // SI_KERNEL: what faulted is no address, or the processor does not tell

// String returns the place of the instruction: "parse+0x1c (/usr/bin/server+0x4a3f1c)".
func (c *Crash) String() string {
	switch {
	case c.Module == "":
		return fmt.Sprintf("%#x", c.PC)
	case c.Symbol == "":
		return fmt.Sprintf("%s+%#x", c.Module, c.Offset)
	}
	return fmt.Sprintf("%s+%#x (%s+%#x)", c.Symbol, c.Within, c.Module, c.Offset)
}

// report is what a child tells its parent in memory that they share (csrc/child.h).
type report struct {
	setup uint32
	err   int32
	call  [20]byte

	crashed   uint32
	sig, code int32
	addr, pc  uint64

	calledGo uint32

	located uint32
	base    uint64
	module  [232]byte
}

// reports are handed out from mappings that stay: a mapping for each child would cost more than
// the rest of what Fork does in the parent.
var reports struct {
	sync.Mutex
	process uint64 // that has them, by its token: a live fork's child must not hand out its parent's
	free    []*report
	chunks  int
}

func newReport() (*report, error) {
	reports.Lock()
	defer reports.Unlock()
	if process := processToken(); reports.process != process {
		reports.process, reports.free = process, nil
	}
	if len(reports.free) == 0 {
		const size = 1 << 16
		addr, err := Mmap(nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS, -1, 0)
		if err != nil {
			return nil, os.NewSyscallError("mmap", err)
		}
		chunk := unsafe.Slice((*report)(addr), size/unsafe.Sizeof(report{}))
		for i := range chunk {
			reports.free = append(reports.free, &chunk[len(chunk)-1-i])
		}
		reports.chunks++
	}
	last := len(reports.free) - 1
	r := reports.free[last]
	reports.free = reports.free[:last]
	*r = report{}
	return r, nil
}

// release gives the report of a child that is gone back; r may be nil.
func (r *report) release() {
	if r == nil {
		return
	}
	reports.Lock()
	defer reports.Unlock()
	reports.free = append(reports.free, r)
}

// hasCalledGo says whether the child reported that it called Go.
func (r *report) hasCalledGo(status unix.WaitStatus) bool {
	return r != nil && r.calledGo == 1 && status.Exited() && status.ExitStatus() == calledGoStatus
}

// calledGoStatus is SHM_CALLED_GO of csrc/go_guard.h.
const calledGoStatus = 2

// crash returns what the child reported of the signal that it died of.
func (r *report) crash(status unix.WaitStatus) *Crash {
	if r == nil || r.crashed != 1 || !status.Signaled() || status.Signal() != unix.Signal(r.sig) {
		return nil
	}
	c := &Crash{Code: r.code, PC: uintptr(r.pc)}
	if r.code > 0 {
		c.Addr = uintptr(r.addr)
	}
	if c.PC == 0 {
		return c
	}
	module, base := unix.ByteSliceToString(r.module[:]), uintptr(r.base)
	if r.located == 0 { // it could not look: then what the parent has there
		module, base = locate(c.PC)
	}
	if module == "" {
		return c
	}
	file := module
	if _, own := locate(uintptr(serve)); base == own { // its path may be another program's by now
		module, _ = os.Executable()
		file = "/proc/self/exe"
	}
	c.Module, c.Offset = module, c.PC-base
	if symbol, start := tableOf(file).find(c.PC, base); symbol != "" {
		c.Symbol, c.Within = symbol, c.PC-start
	}
	return c
}

// symbols is a module's symbol table: its functions, by address.
type symbols struct {
	once      sync.Once
	relocated bool // addresses are relative to where the module begins in memory
	functions []elf.Symbol
}

// tables are those of the modules that children crashed in, as reading one takes milliseconds.
var tables sync.Map

func tableOf(module string) *symbols {
	t, _ := tables.LoadOrStore(module, new(symbols))
	table := t.(*symbols)
	table.once.Do(func() { table.read(module) })
	return table
}

// read leaves the table empty where there is none.
func (t *symbols) read(module string) {
	f, err := elf.Open(module)
	if err != nil {
		return
	}
	defer f.Close()
	t.relocated = f.Type == elf.ET_DYN
	all, _ := f.Symbols()
	exported, _ := f.DynamicSymbols() // all that is left of a stripped module's
	for _, s := range append(all, exported...) {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Size > 0 && s.Section != elf.SHN_UNDEF {
			t.functions = append(t.functions, elf.Symbol{Name: s.Name, Value: s.Value, Size: s.Size})
		}
	}
	slices.SortFunc(t.functions, func(a, b elf.Symbol) int { return cmp.Compare(a.Value, b.Value) })
}

func (t *symbols) find(pc, base uintptr) (name string, start uintptr) {
	if !t.relocated {
		base = 0
	}
	at := uint64(pc - base)
	i, _ := slices.BinarySearchFunc(t.functions, at+1, func(s elf.Symbol, at uint64) int { return cmp.Compare(s.Value, at) })
	if i == 0 || at >= t.functions[i-1].Value+t.functions[i-1].Size {
		return "", 0
	}
	return t.functions[i-1].Name, uintptr(t.functions[i-1].Value) + base
}
