package shm

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/seccomp"
)

// ExitError says how a child ended, if its exit status is not 0.
type ExitError struct {
	Pid    int
	Status unix.WaitStatus
	Crash  *Crash // the place of the crash; nil if the child recorded none

	// CalledGo is true if the child's C called an exported Go function. Such a
	// child ends with exit status 2. A forked child has one thread and therefore
	// no Go runtime: it can run C only.
	CalledGo bool

	// Denied is the system call that ended a child whose Sandbox reports denied
	// calls. It is nil for all other children.
	Denied *Denied
}

// Error returns the error in a form like "child 4711: exit status 3" or "child
// 4711: signal: segmentation fault (core dumped), address 0x10, at parse+0x1c
// (/usr/bin/server+0x4a3f1c)". The address is there only if an address faulted.
// After an abort, ", called by abort+0xd3, check+0x1a, parse+0x1c" follows.
func (e *ExitError) Error() string {
	if !e.Status.Signaled() {
		s := fmt.Sprintf("child %d: exit status %d", e.Pid, e.Status.ExitStatus())
		if e.CalledGo {
			s += ": the child called Go, but a forked child can run C only"
		}
		return s
	}
	if e.Denied != nil {
		return fmt.Sprintf("child %d: sandbox: %v", e.Pid, e.Denied)
	}
	s := fmt.Sprintf("child %d: signal: %v", e.Pid, e.Status.Signal())
	if e.Status.CoreDump() {
		s += " (core dumped)"
	}
	if e.Crash == nil {
		return s
	}
	if e.Crash.Code > 0 && e.Crash.Code != siKernel { // an address faulted
		s += fmt.Sprintf(", address %#x", e.Crash.Addr)
	}
	if e.Crash.PC != 0 || e.Crash.Code > 0 {
		s += fmt.Sprintf(", at %v", e.Crash)
	}
	if e.Status.Signal() == unix.SIGABRT { // the place is in the C library
		s += calledBy(e.Crash.Callers())
	}
	return s
}

const siKernel = 0x80 // SI_KERNEL: no address faulted, or the processor does not report the address

// String returns the place of the instruction, in a form like "parse+0x1c
// (/usr/bin/server+0x4a3f1c)".
func (c *Crash) String() string {
	switch {
	case c.Module == "":
		return fmt.Sprintf("%#x", c.PC)
	case c.Symbol == "":
		return fmt.Sprintf("%s+%#x", c.Module, c.Offset)
	}
	return fmt.Sprintf("%s+%#x (%s+%#x)", c.Symbol, c.Within, c.Module, c.Offset)
}

// isKilled reports whether a child that was sent SIGKILL died of it. If the
// status is lost, isKilled assumes so.
func isKilled(err error) bool {
	var exit *ExitError
	if errors.As(err, &exit) {
		return exit.Status.Signal() == unix.SIGKILL
	}
	return err != nil
}

// crash returns the child's record of the signal that it died of. The child can
// lie about everything except the signal.
func (c *control) crash(status unix.WaitStatus) *Crash {
	if !c.isMapped() || !status.Signaled() {
		return nil
	}
	r := c.crashRecord()
	if !r.isOf(status.Signal()) {
		return nil
	}
	crash := r.crash(moduleAt(uintptr(r.pc)))
	if callers := r.callers(); len(callers) > 0 {
		crash.callers = &callers
	}
	return crash
}

// String returns the call and its place, in a form like "system call openat
// denied, at parse+0x1c (/usr/bin/server+0x4a3f1c)".
func (d *Denied) String() string {
	s := fmt.Sprintf("system call %s denied", d.Name)
	if d.PC != 0 {
		s += fmt.Sprintf(", at %v", &Crash{
			PC: d.PC, Module: d.Module, Offset: d.Offset, Symbol: d.Symbol, Within: d.Within})
	}
	return s
}

// denied returns the child's record of the system call that a filter has
// denied, if the child died of that. The child can lie about everything except
// the signal.
func (c *control) denied(status unix.WaitStatus) *Denied {
	if !c.isMapped() || !status.Signaled() || status.Signal() != unix.SIGSYS {
		return nil
	}
	r := c.crashRecord()
	return r.denied()
}

// denied converts the record, if it is of a denied call.
func (r *crashRecord) denied() *Denied {
	const bySeccomp = 1 // SYS_SECCOMP
	if !r.isOf(unix.SIGSYS) || r.code != bySeccomp {
		return nil
	}
	at := r.crash(moduleAt(uintptr(r.pc)))
	return &Denied{
		Syscall: uintptr(uint32(r.syscall)),
		Name:    seccomp.Name(runtime.GOARCH, r.arch, uint32(r.syscall)),
		PC:      at.PC, Module: at.Module, Offset: at.Offset, Symbol: at.Symbol, Within: at.Within,
	}
}

// isOf reports whether the record is of that signal.
func (r *crashRecord) isOf(sig unix.Signal) bool {
	return (r.state == crashRecorded || r.state == crashLocated) && unix.Signal(r.sig) == sig
}

// crash converts the record. known is the module that this process has mapped
// at the address of the instruction. crash looks up the function only if the
// child names the same module at the same address. It does not open the file of
// a module that only the child has loaded.
func (r *crashRecord) crash(known module) *Crash {
	c := &Crash{Code: r.code, PC: uintptr(r.pc)}
	if r.code > 0 {
		c.Addr = uintptr(r.addr)
	}
	if c.PC == 0 {
		return c
	}
	m := known
	if r.state == crashLocated { // the child could read its own maps
		m = module{name: unix.ByteSliceToString(r.module[:]), base: uintptr(r.base)}
	}
	if m.name == "" {
		return c
	}
	c.Module, c.Offset = printable(m.name), c.PC-m.base
	if m.name != known.name || m.base != known.base {
		return c
	}
	table, name := symbolsOf(m.name)
	c.Module = printable(name)
	if symbol, start := table.Find(uint64(c.PC), uint64(m.base)); symbol != "" {
		c.Symbol, c.Within = printable(symbol), c.PC-uintptr(start)
	}
	return c
}
