//go:build linux

// Package seccomp assembles seccomp(2) filters: programs of classic BPF by which
// the kernel decides about each system call of a process.
package seccomp

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The system calls of each architecture, as package unix of golang.org/x/sys numbers them. A line
// is a number and a name. TestCallsAreThoseOfUnix makes the files with -update.
//
//go:embed *.txt
var callFiles embed.FS

// arch is a processor architecture as the kernel tells them apart.
type arch struct {
	audit uint32 // AUDIT_ARCH_*
	is64  bool
	calls func() *calls
}

// arches are the architectures that have a filter, by GOARCH.
var arches = map[string]*arch{
	"amd64":   {unix.AUDIT_ARCH_X86_64, true, readOnce("amd64")},
	"386":     {unix.AUDIT_ARCH_I386, false, readOnce("386")},
	"arm64":   {unix.AUDIT_ARCH_AARCH64, true, readOnce("arm64")},
	"arm":     {unix.AUDIT_ARCH_ARM, false, readOnce("arm")},
	"riscv64": {unix.AUDIT_ARCH_RISCV64, true, readOnce("riscv64")},
}

// x32 is set in the number of each call of the x32 ABI, which has amd64's AUDIT_ARCH.
const x32 = 0x40000000

// calls are the numbers and the names of one architecture.
type calls struct {
	names   map[uint32]string
	numbers map[string]uint32
}

func readOnce(goarch string) func() *calls {
	return sync.OnceValue(func() *calls {
		text, err := callFiles.ReadFile(goarch + ".txt")
		if err != nil {
			panic(err)
		}
		c := &calls{map[uint32]string{}, map[string]uint32{}}
		for line := range strings.Lines(string(text)) {
			number, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil {
				panic(err)
			}
			c.names[uint32(n)], c.numbers[name] = name, uint32(n)
		}
		return c
	})
}

// Name returns the name of a system call that a program of an architecture made. audit is
// AUDIT_ARCH_* of the call. A call of another ABI has a name such as "open (386)".
func Name(goarch string, audit uint32, number uint32) string {
	other := ""
	for name, a := range arches {
		if a.audit == audit && name != goarch {
			other = " (" + name + ")"
			goarch = name
			break
		}
	}
	a := arches[goarch]
	if a == nil || a.audit != audit {
		return fmt.Sprintf("%d (architecture %#x)", number, audit)
	}
	if goarch == "amd64" && number&x32 != 0 && int32(number) > 0 {
		number, other = number&^x32, " (x32)"
	}
	if name := a.calls().names[number]; name != "" {
		return name + other
	}
	return fmt.Sprintf("%d%s", int32(number), other)
}
