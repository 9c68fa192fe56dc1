package shm

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/elfsym"
	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/procmaps"
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

// isKilled says whether a child that was sent SIGKILL died of it. Where its status is lost it may have.
func isKilled(err error) bool {
	var exit *ExitError
	if errors.As(err, &exit) {
		return exit.Status.Signal() == unix.SIGKILL
	}
	return err != nil
}

// crash returns what the child recorded of the signal that it died of. A child can lie about all but the signal.
func (c *control) crash(status unix.WaitStatus) *Crash {
	if !c.isHere() || !status.Signaled() {
		return nil
	}
	r := c.crashRecord()
	if !r.isOf(status.Signal()) {
		return nil
	}
	return r.crash(moduleAt(uintptr(r.pc)))
}

// isOf reports whether the record is of that signal.
func (r *crashRecord) isOf(sig unix.Signal) bool {
	return (r.state == crashRecorded || r.state == crashLocated) && unix.Signal(r.sig) == sig
}

// crash returns the record's crash, known being what this process itself has mapped where the instruction is. The
// function is looked for only if the child names that same module at that same address: a module that the child
// loaded is named, but its file is not opened.
func (r *crashRecord) crash(known module) *Crash {
	c := &Crash{Code: r.code, PC: uintptr(r.pc)}
	if r.code > 0 {
		c.Addr = uintptr(r.addr)
	}
	if c.PC == 0 {
		return c
	}
	m := known
	if r.state == crashLocated { // else the child could not look
		m = module{unix.ByteSliceToString(r.module[:]), uintptr(r.base)}
	}
	if m.name == "" {
		return c
	}
	c.Module, c.Offset = printable(m.name), c.PC-m.base
	if m != known {
		return c
	}
	table, name := symbolsOf(m.name)
	c.Module = printable(name)
	if symbol, start := table.Find(uint64(c.PC), uint64(m.base)); symbol != "" {
		c.Symbol, c.Within = printable(symbol), c.PC-uintptr(start)
	}
	return c
}

// printable quotes a name that has anything but printable characters in it.
func printable(name string) string {
	if quoted := strconv.Quote(name); quoted[1:len(quoted)-1] != name {
		return quoted
	}
	return name
}

// module is a file in memory.
type module struct {
	name string  // as /proc/self/maps has it
	base uintptr // where it begins
}

// moduleAt returns the module that this process has at an address, if any.
func moduleAt(pc uintptr) module {
	var begins module // the file last seen to begin
	var inode uint64
	for vma, err := range procmaps.All(0) {
		if err != nil {
			break
		}
		if vma.Offset == 0 && vma.Inode != 0 && vma.Inode != inode {
			begins, inode = module{vma.Name, vma.Start}, vma.Inode
		}
		if pc < vma.Start || pc >= vma.End {
			continue
		}
		switch {
		case vma.Inode == 0 || !strings.HasPrefix(vma.Name, "/"):
			return module{}
		case vma.Inode == inode:
			return begins
		}
		return module{vma.Name, vma.Start - uintptr(vma.Offset)}
	}
	return module{}
}

// symbolTables are those of modules of this process that children crashed in, as to read one takes milliseconds.
var symbolTables struct {
	sync.Mutex
	byModule map[string]*elfsym.Table
}

func init() { hook.Locks = append(hook.Locks, &symbolTables.Mutex) }

const maxSymbolTables = 64

// symbolsOf returns the symbols of a module that this process has mapped, and the module's path. The program's own
// path may be another program's by now.
func symbolsOf(name string) (table *elfsym.Table, path string) {
	read := func() (*elfsym.Table, error) { return elfsym.Open(name) }
	path = name
	if exe, err := os.Readlink("/proc/self/exe"); err == nil && exe == name {
		read = elfsym.Self
		if executable, err := os.Executable(); err == nil {
			path = executable
		}
	}
	symbolTables.Lock()
	table, found := symbolTables.byModule[name]
	symbolTables.Unlock()
	if found {
		return table, path
	}
	table, _ = read() // nil where there is none
	symbolTables.Lock()
	defer symbolTables.Unlock()
	if symbolTables.byModule == nil || len(symbolTables.byModule) >= maxSymbolTables {
		symbolTables.byModule = map[string]*elfsym.Table{}
	}
	symbolTables.byModule[name] = table
	return table, path
}
