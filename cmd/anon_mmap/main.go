//go:build linux && cgo

// Command anon_mmap does what Listing 49-3 of The Linux Programming Interface
// does: a forked child changes an int in a shared anonymous mapping, and the
// parent, having waited for it, sees the change. With -v it says on standard
// error which technique, address and pid were used.
//
// It makes the system calls that csrc/anon_mmap.c makes, in the same order, and
// so forks and waits by the calls as C has them. A program of one's own would
// rather use Mapping.Fork and Process.Wait.
package main

/*
#include <stdio.h>
#include <sys/mman.h>

int child(void *addr, size_t length)
{
	int *value = addr;

	printf("Child started, value = %d\n", *value);
	(*value)++;
	if (munmap(addr, length) == -1) {
		perror("anon_mmap: munmap");
		return 1;
	}
	return fflush(stdout) == EOF; // _exit does not
}
*/
import "C"

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"forkshm.example/shm"
)

func main() {
	verbose := flag.Bool("v", false, "say which technique, address and pid")
	flag.Parse()
	if err := run(*verbose); err != nil {
		var call *os.SyscallError
		if errors.As(err, &call) { // as perror(3) has it: the call, without the file
			name, _, _ := strings.Cut(call.Syscall, " ")
			err = os.NewSyscallError(name, call.Err)
		}
		fmt.Fprintf(os.Stderr, "anon_mmap: %v\n", err)
		os.Exit(1)
	}
}

func run(verbose bool) error {
	note := func(format string, a ...any) {
		if verbose {
			fmt.Fprintf(os.Stderr, "anon_mmap: "+format+"\n", a...)
		}
	}

	m, err := shm.Map(shm.Shared, int(unsafe.Sizeof(C.int(0))), nil)
	if err != nil {
		return err
	}
	note("%v %v, %d bytes at %p", m.Sharing(), m.Technique(), m.Len(), m.Addr())
	value, err := shm.At[C.int](m, 0)
	if err != nil {
		return err
	}
	*value = 1

	pid, err := shm.Fork(shm.ChildFunc(C.child), m.Addr(), m.Len())
	if err != nil {
		return os.NewSyscallError("fork", err)
	}
	note("child is pid %d", pid)
	if _, _, err := shm.Waitpid(pid, 0); err != nil {
		return os.NewSyscallError("waitpid", err)
	}
	if _, err := fmt.Printf("In parent, value = %d\n", *value); err != nil {
		return err
	}
	return m.Close()
}
