//go:build linux && cgo

// Package parity_test compares this module with C: call by call, and system
// call by system call.
package parity_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv("SHM_TEST_TWIN") != "" {
		testenv.SpareThreads() // a script may leave it no process to have
		goTwin()
		os.Exit(0)
	}
	code := m.Run()
	testenv.RemoveScratch()
	os.Exit(code)
}

// The raw calls do what the calls in C do. Each script runs in a C program, and in
// this process through this package's calls, and both must print the same.
// internal/ctest/testdata/twin.c explains the commands of a script.
//
// "$sharing" and "$source" stand for what is being tested; names of flags for their numbers. What a
// script unmaps, another thread may map at once: so scripts work within a reservation r, which
// reserved encloses in a larger one, and leave holes too small for what a thread maps.

var twinScripts = []struct{ name, script string }{
	{"map zero-filled and writable", `
		mmap a 0 0x3000 rw $sharing $source
		get a
		get a+0x2fff
		set a+0x2fff 200
		get a+0x2fff
		maps a`},
	{"map length 0", `mmap a 0 0 rw $sharing $source`},
	{"map negative", `
		mmap a 0 -1 rw $sharing $source
		mmap a 0 -4096 rw $sharing $source
		mmap a 0 -9223372036854775808 rw $sharing $source`},
	{"map too large", `mmap a 0 0x4000000000000 rw $sharing $source`},
	{"map neither private nor shared", `mmap a 0 4096 rw 0 $source`},
	{"map without a descriptor", `mmap a 0 4096 rw $sharing none`},
	{"map misaligned", `
		mmap r 0 0x2000 none private anon
		mmap a r+1 4096 rw $sharing|fixed $source`},
	{"map fixed replaces", `
		mmap r 0 0x3000 rw $sharing $source
		set r+0x1000 5
		mmap a r+0x1000 4096 rw $sharing|fixed $source
		get r+0x1000`},
	{"map noreplace", `
		mmap r 0 0x3000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		mmap b a 4096 rw $sharing|noreplace $source
		munmap a 4096
		mmap b a 4096 rw $sharing|noreplace $source`},
	{"map part of a page", `
		mmap r 0 0x2000 none private anon
		mmap a r 100 rw $sharing|fixed $source
		set a+4095 9
		child read a+4095 0
		child read a+4096 0`},
	{"map no access", `
		mmap a 0 4096 none $sharing $source
		child read a 0
		child write a 1
		maps a`},
	{"map read only", `
		mmap a 0 4096 r $sharing $source
		child read a 0
		child write a 1
		maps a`},
	{"map /dev/zero opened for reading", `
		mmap a 0 4096 rw shared /dev/zero:ro
		mmap a 0 4096 rw private /dev/zero:ro
		mmap a 0 4096 r shared /dev/zero:ro`},

	{"unmap misaligned", `
		mmap a 0 0x2000 rw $sharing $source
		munmap a+1 4096`},
	{"unmap length 0", `
		mmap a 0 4096 rw $sharing $source
		munmap a 0`},
	{"unmap negative", `
		mmap a 0 4096 rw $sharing $source
		munmap a -4096
		munmap a -1`},
	{"unmap twice", `
		mmap r 0 0x3000 none private anon
		mmap a r+0x1000 4096 rw $sharing|fixed $source
		munmap a 4096
		munmap a 4096
		child read a 0`},
	{"unmap over a hole", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x3000 rw $sharing|fixed $source
		munmap a+0x1000 4096
		munmap a 0x3000
		maps a+0x2000
		maps r+0x3000`},
	{"unmap 1 byte", `
		mmap r 0 0x3000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		set a+0x1000 6
		munmap a 1
		child read a+4095 0
		child read a+4096 0`},
	{"unmap the middle", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x3000 rw $sharing|fixed $source
		set a 1
		set a+0x1000 2
		set a+0x2000 3
		munmap a+0x1000 0x1000
		get a
		child read a+0x1000 0
		get a+0x2000`},

	{"remap in place", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		set a+0x1fff 8
		munmap r+0x2000 0x2000
		mremap b a 0x2000 0x4000 0 0
		get b+0x1fff
		child read b+0x2000 0
		child write b+0x3fff 1
		maps b+0x3fff`},
	{"remap in place, blocked", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		set a 8
		mremap b a 0x2000 0x3000 0 0
		get a
		child write a+0x1fff 1
		maps r+0x2000`},
	{"remap to the same", `
		mmap a 0 0x2000 rw $sharing $source
		mremap b a 0x2000 0x2000 0 0
		mremap b a 0x2000 0x1001 0 0
		mremap b a 0x1fff 0x2000 0 0`},
	{"remap smaller", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x3000 rw $sharing|fixed $source
		set a 4
		set a+0x2000 5
		mremap b a 0x3000 0x1000 0 0
		get b
		child read b+0x1000 0
		child read b+0x2000 0`},
	{"remap smaller and larger again", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x3000 rw $sharing|fixed $source
		set a 4
		set a+0x2000 5
		mremap a a 0x3000 0x1000 0 0
		mremap a a 0x1000 0x3000 0 0
		get a
		child read a+0x2000 0`},
	{"remap, may move", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		set a 1
		set a+0x1fff 2
		mremap b a 0x2000 0x8000 maymove 0
		get b
		get b+0x1fff
		child read b+0x2000 0
		child write b+0x7fff 1
		child read a 0`},
	{"remap, may move, of part of a page", `
		mmap a 0 100 rw $sharing $source
		set a+99 3
		mremap b a 100 200 maymove 0
		get b+99
		child write b+4095 1`},
	{"remap, shared, grown past its first size", `
		mmap r 0 0x3000 none private anon
		mmap a r 0x1000 rw shared|fixed $source
		mremap b a 0x1000 0x2000 maymove 0
		child read b+0xfff 0
		child read b+0x1000 0
		child write b+0x1000 1`},
	{"remap fixed", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		set a 1
		set a+0x1fff 2
		mremap b a 0x2000 0x2000 maymove|remap_fixed r+0x4000
		get b
		get b+0x1fff
		child read a 0
		maps r+0x6000`},
	{"remap fixed onto live pages", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x1000 rw $sharing|fixed $source
		mmap c r+0x4000 0x2000 rw $sharing|fixed $source
		set a 1
		set c 7
		set c+0x1000 8
		mremap b a 0x1000 0x1000 maymove|remap_fixed c
		get c
		get c+0x1000
		child read a 0`},
	{"remap fixed, larger and smaller", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x2000 rw private|fixed $source
		set a 1
		mremap b a 0x2000 0x3000 maymove|remap_fixed r+0x4000
		get b
		child write b+0x2fff 1
		mremap c b 0x3000 0x1000 maymove|remap_fixed r
		get c
		child read b 0
		child read b+0x1000 0`},
	{"remap fixed, refused", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		set a 1
		mremap b a 0x2000 0x2000 remap_fixed r+0x4000
		mremap b a 0x2000 0x2000 maymove|remap_fixed r+0x4001
		mremap b a 0x2000 0x2000 maymove|remap_fixed a
		mremap b a 0x2000 0x2000 maymove|remap_fixed a+0x1000
		mremap b a 0x2000 0 maymove|remap_fixed r+0x4000
		get a
		child read a+0x1000 0`},
	{"remap refused", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		set a 1
		mremap b a+1 0x1000 0x2000 maymove 0
		mremap b a 0x2000 0 maymove 0
		mremap b a 0x2000 0x3000 8 0
		mremap b a 0x2000 0x4000000000000 maymove 0
		mremap b a 0x2000 -1 maymove 0
		mremap b a 0x2000 -4096 maymove 0
		get a
		child read a+0x1000 0`},
	{"remap what is not mapped", `
		mmap r 0 0x4000 none private anon
		munmap r+0x1000 0x1000
		mremap b r+0x1000 0x1000 0x2000 maymove 0`},
	{"remap over a hole", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x3000 rw $sharing|fixed $source
		munmap a+0x1000 0x1000
		mremap b a 0x3000 0x4000 maymove 0
		child read a 0`},
	{"remap of two mappings", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x1000 rw $sharing|fixed $source
		mmap c r+0x1000 0x1000 r $sharing|fixed $source
		mremap b a 0x2000 0x3000 maymove 0
		child read a 0
		child read c 0`},
	{"remap of what mprotect split", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x3000 rw $sharing|fixed $source
		mprotect a+0x1000 0x1000 r
		mremap b a 0x3000 0x4000 maymove 0
		mprotect a+0x1000 0x1000 rw
		mremap b a 0x3000 0x4000 maymove 0`},
	{"remap of what madvise split", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x3000 rw $sharing|fixed $source
		madvise a+0x1000 0x1000 dontfork
		mremap b a 0x3000 0x4000 maymove 0`},
	{"remap keeps the protection", `
		mmap a 0 0x1000 r private $source
		mremap b a 0x1000 0x2000 maymove 0
		maps b+0x1000
		child write b+0x1000 1`},
	{"remap of old size 0", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		set a 1
		mremap b a 0 0x2000 maymove 0
		mremap c a 0 0x2000 maymove|remap_fixed r+0x4000
		maps r+0x4000
		child read r+0x4000 0`},
	{"remap, a shared alias", `
		mmap a 0 0x1000 rw shared $source
		set a 1
		mremap b a 0 0x1000 maymove 0
		set b 2
		get a
		munmap a 0x1000
		get b`},
	{"remap, old mapping kept", `
		mmap r 0 0x8000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		set a 1
		mremap b a 0x2000 0x2000 maymove|dontunmap 0
		get b
		child read a 0
		set b 2
		child read a 0
		mremap c b 0x2000 0x2000 dontunmap 0
		mremap c b 0x2000 0x3000 maymove|dontunmap 0`},

	{"protect misaligned", `
		mmap a 0 0x2000 rw $sharing $source
		mprotect a+1 0x1000 r
		mprotect a 1 r
		maps a
		maps a+0x1000`},
	{"protect length 0, too much, unknown", `
		mmap a 0 0x1000 rw $sharing $source
		mprotect a 0 none
		mprotect a -4096 none
		mprotect a 0x1000 0x1000000
		maps a`},
	{"protect what is not mapped", `
		mmap r 0 0x4000 none private anon
		munmap r+0x1000 0x1000
		mprotect r+0x1000 0x1000 r`},
	{"protect over a hole, and what was changed before it", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x3000 rw $sharing|fixed $source
		set a 1
		munmap a+0x1000 0x1000
		mprotect a 0x3000 r
		maps a
		maps a+0x2000
		child write a 1
		child write a+0x2000 1`},
	{"protect, each way and back", `
		mmap a 0 0x3000 rw $sharing $source
		set a+0x1000 5
		mprotect a+0x1000 0x1000 none
		child read a+0x1000 0
		child write a+0x2000 1
		mprotect a+0x1000 0x1000 r
		child read a+0x1000 0
		child write a+0x1000 1
		mprotect a+0x1000 0x1000 rw
		child write a+0x1000 1
		maps a+0x1000`},

	{"advise dontneed", `
		mmap a 0 0x2000 rw $sharing $source
		set a 5
		set a+0x1000 6
		madvise a 0x1000 dontneed
		get a
		get a+0x1000`},
	{"advise remove", `
		mmap a 0 0x2000 rw $sharing $source
		set a 5
		madvise a 0x1000 remove
		get a
		child read a 0`},
	{"advise free", `
		mmap a 0 0x1000 rw $sharing $source
		madvise a 0x1000 free`},
	{"advise dontfork and back", `
		mmap a 0 0x2000 rw $sharing $source
		set a 5
		madvise a 0x1000 dontfork
		child read a 0
		child read a+0x1000 0
		madvise a 0x1000 dofork
		child read a 0`},
	{"advise wipeonfork and back", `
		mmap a 0 0x1000 rw $sharing $source
		set a 5
		madvise a 0x1000 wipeonfork
		child read a 0
		madvise a 0x1000 keeponfork
		child read a 0
		get a`},
	{"advise refused", `
		mmap a 0 0x2000 rw $sharing $source
		madvise a 0x1000 12345
		madvise a+1 0x1000 normal
		madvise a -4096 normal
		madvise a 0 normal`},
	{"advise over a hole", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x3000 rw $sharing|fixed $source
		set a 1
		set a+0x2000 3
		munmap a+0x1000 0x1000
		madvise a 0x3000 dontneed
		get a
		get a+0x2000`},

	{"lock and unlock", `
		mmap a 0 0x2000 rw $sharing $source
		mlock a 0x2000
		madvise a 0x1000 dontneed
		child locked 0 0
		munlock a 0x2000
		madvise a 0x1000 dontneed`},
	{"lock refused", `
		mmap r 0 0x4000 none private anon
		mmap a r 0x2000 rw $sharing|fixed $source
		munmap r+0x2000 0x1000
		mlock r+0x2000 0x1000
		mlock a 0x3000
		munlock a 0x3000
		mprotect a 0x1000 none
		mlock a 0x1000
		munlock a 0x1000
		mlock a+0x1000 -4096
		mlock a+0x1000 0`},
	{"lock moves along", `
		mmap a 0 0x2000 rw $sharing $source
		mlock a 0x2000
		mremap b a 0x2000 0x1000 0 0
		mremap b a 0x1000 0x1000 maymove 0
		madvise b 0x1000 dontneed
		munlock b 0x1000`},

	{"Mapping: map, resize, close", `
		map a 5000 $sharing $source
		set a 1
		set a+4999 2
		sum a
		maps a
		resize a 4096 0
		sum a
		resize a 5000 maymove
		sum a
		resize a 100 maymove
		resize a 0 maymove
		resize a -1 maymove
		sum a
		close a`},
	{"Mapping: grown", `
		map a 0x2000 private $source
		set a 1
		set a+0x1fff 2
		resize a 0x2001 maymove
		sum a
		resize a 0x40000 maymove
		sum a
		child write a+0x3ffff 1
		resize a 0x1000 0
		resize a 0x3000 maymove
		sum a
		resize a 0x400000000000 maymove
		sum a`},
	{"Mapping: a shared memfd grown", `
		map a 0x2000 shared memfd
		set a+0x1fff 2
		resize a 0x40000 maymove
		sum a
		child write a+0x3ffff 7
		get a+0x3ffff
		resize a 0x1000 0
		resize a 0x3000 maymove
		sum a`},
	{"Mapping: moved", `
		map a 0x2000 $sharing $source
		map b 0x4000 private anon
		set a 1
		set a+0x1fff 2
		moveto a b
		sum a
		child read b+0x2000 0
		close a`},
	{"Mapping: protected", `
		map a 0x2000 $sharing $source
		set a 1
		protect a r
		maps a
		child read a 0
		child write a 1
		resize a 0x1000 0
		protect a none
		maps a
		sum a
		child read a 0
		protect a rw
		sum a
		maps a`},
	{"Mapping: advised", `
		map a 0x2000 $sharing $source
		set a 5
		set a+0x1000 6
		advise a 0 0x1000 remove
		sum a
		advise a 0 0x1000 dontneed
		sum a
		advise a 0 0x2000 dontfork
		child read a 0
		advise a 0 0x2000 dofork
		child read a+0x1000 0
		advise a 0 0x2000 wipeonfork
		child read a+0x1000 0
		advise a 0 0x2000 12345`},
	{"Mapping: advised in part, and grown", `
		map a 0x3000 private $source
		set a 5
		set a+0x1000 6
		advise a 0x1000 0x1000 dontfork
		advise a 0x1000 0x1000 dofork
		resize a 0x30000 maymove
		sum a`},
	{"Mapping: locked", `
		map a 0x2000 $sharing $source
		set a 5
		lock a
		child locked 0 0
		advise a 0 0x1000 dontneed
		sum a
		unlock a
		advise a 0 0x1000 dontneed
		sum a
		protect a none
		lock a
		unlock a`},

	{"fork, seen both ways", `
		mmap a 0 4096 rw $sharing $source
		set a 5
		child swap a 0x0605
		get a
		set a 7
		child swap a 0x0807
		get a`},
	{"fork, generations", `
		mmap a 0 4096 rw $sharing $source
		child chain a 9
		get a`},
	{"fork, the child's view is its own", `
		mmap a 0 4096 rw $sharing $source
		set a 5
		child unmap a 4096
		get a
		child remap a 4096
		get a`},
	{"fork, one thread, fresh signals, malloc", `
		child threads 0 0
		child fresh 0 0
		child malloc 0 0`},

	{"wait, exit status", `
		child exit 0 256
		child exit 0 261
		child exit 0 511
		child exit 0 -1`},
	{"wait, no child", `
		waitpid none 0
		waitpid none nohang`},
	{"wait, again", `
		spawn p exit 0 3
		waitpid p 0
		waitpid p 0
		waitpid p nohang`},
	{"wait, still running", `
		spawn p pause 0 0
		waitpid p nohang
		waitpid p 0x100000
		kill p 9
		waitpid p 0`},
	{"wait, stopped and continued", `
		spawn p pause 0 0
		kill p 19
		waitpid p untraced
		waitpid p nohang|untraced
		kill p 18
		waitpid p continued
		waitpid p nohang|continued|untraced
		kill p 15
		waitpid p 0`},
	{"wait, core dumped", `
		child dump 0 11
		child dump 0 6
		child dump 0 9`},
}

func TestCallsDoAsInC(t *testing.T) {
	testenv.NeedTime(t)
	for _, sharing := range []string{"private", "shared"} {
		for _, source := range []string{"anon", "/dev/zero", "memfd"} {
			t.Run(fmt.Sprintf("sharing=%s/source=%s", sharing, strings.TrimPrefix(source, "/dev/")),
				func(t *testing.T) {
					var all strings.Builder
					for _, s := range twinScripts {
						fmt.Fprintf(&all, "echo %s\n%s\n", s.name,
							strings.NewReplacer("$sharing", sharing, "$source",
								source).Replace(s.script))
					}
					compareWithTwin(t, all.String())
				})
		}
	}
}

// Limits of the machine hold for C and Go alike. Each runs in new processes,
// since a limit cannot be undone.
func TestLimitsHoldAsInC(t *testing.T) {
	testenv.NeedTime(t)
	for _, s := range []struct{ name, script string }{
		{"address space", `
			map a 0x2000 $sharing $source
			set a 5
			rlimit as 0x4000000
			map b 0x8000000 $sharing $source
			mmap b 0 0x8000000 rw $sharing $source
			map c 0x8000000 $sharing $source
			resize a 0x1000 0
			sum a`},
		{"address space, growing", `
			map a 0x2000 private $source
			set a 5
			rlimit as 0x4000000
			resize a 0x8000000 maymove
			mremap b a 0x2000 0x8000000 maymove 0
			sum a`},
		{"descriptors", `
			map a 0x1000 $sharing $source
			rlimit nofile 0
			map b 0x1000 $sharing $source
			sum a`},
		{"locks of an unprivileged user", `
			map a 0x4000 $sharing $source
			map b 0x14000 $sharing $source
			rlimit memlock 0x10000
			setuid 65534
			lock a
			lock b
			mlock b 0x4000
			mlock b 0x10000
			munlock b 0x14000
			unlock a
			rlimit memlock 0
			lock a
			mlock a 1`},
		{"locks that grow", `
			map a 0x4000 private $source
			rlimit memlock 0x10000
			setuid 65534
			set a 7
			lock a
			resize a 0x20000 maymove
			sum a
			resize a 0x8000 maymove
			sum a`},
		{"processes of an unprivileged user", `
			setuid 65534
			rlimit nproc 0
			child exit 0 0
			spawn p exit 0 0`},
	} {
		for _, sharing := range []string{"private", "shared"} {
			for _, source := range []string{"anon", "/dev/zero", "memfd"} {
				script := strings.NewReplacer("$sharing", sharing, "$source",
					source).Replace(s.script)
				compareWithTwin(t,
					fmt.Sprintf("echo %s, %s, %s\n%s\n", strings.ReplaceAll(s.name, " ", "_"),
						sharing, strings.TrimPrefix(source, "/dev/"), script))
			}
		}
	}
}

func TestWaitSeesEveryExitStatus(t *testing.T) {
	testenv.NeedTime(t)
	script := "echo every exit status\n"
	for status := range 256 {
		script += fmt.Sprintf("child exit 0 %d\n", status)
	}
	compareWithTwin(t, script)
}

func TestWaitSeesEverySignal(t *testing.T) {
	testenv.NeedTime(t)
	script := "echo every signal\n"
	for sig := 1; sig <= 64; sig++ {
		switch unix.Signal(sig) {
		case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, 32, 33:
			// These signals stop the child, or belong to libc.
		default:
			script += fmt.Sprintf("child raise 0 %d\n", sig)
		}
	}
	compareWithTwin(t, script)
}

// compareWithTwin runs a script in C and in Go, in two processes, and compares
// the parts of their output. Each part begins with "echo".
func compareWithTwin(t *testing.T, script string) {
	script = numbers(reserved(script))
	inC := run(t, script, exec.Command(twinProgram(t)))
	self, err := os.Executable()
	require.NoError(t, err)
	twin := exec.Command(self)
	twin.Env = append(os.Environ(), "SHM_TEST_TWIN=1")
	inGo := run(t, script, twin)

	require.Equal(t, len(inC), len(inGo))
	for i, lines := range inC {
		name, _, _ := strings.Cut(lines, "\n")
		t.Run(strings.TrimPrefix(name, "echo "),
			func(t *testing.T) { assert.Equal(t, lines, inGo[i], "expected is C, actual is Go") })
	}
}

// run returns the script's parts: each step with its result.
func run(t *testing.T, script string, cmd *exec.Cmd) (parts []string) {
	cmd.Stdin = strings.NewReader(script)
	cmd.Dir = t.TempDir() // for cores
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	outcomes := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	steps := strings.Split(strings.TrimSuffix(script, "\n"), "\n")
	require.Equal(t, len(steps), len(outcomes), "%s", out)
	for i, step := range steps {
		if strings.HasPrefix(step, "echo ") {
			parts = append(parts, step+"\n")
		} else {
			outcome := errnoNumber.ReplaceAllStringFunc(strings.TrimSpace(outcomes[i]), errnoName)
			parts[len(parts)-1] += fmt.Sprintf("%-50s %s\n", step, outcome)
		}
	}
	return parts
}

var errnoNumber = regexp.MustCompile(`^errno \d+$`)

// errnoName returns the name of an errno value, which the C twin prints as a
// number.
func errnoName(number string) string {
	return unix.ErrnoName(unix.Errno(must(strconv.Atoi(strings.TrimPrefix(number, "errno ")))))
}

// twinProgram compiles the C twin, once.
var twinProgram = testenv.CompileOnce("twin", "internal/ctest/testdata/twin.c",
	"internal/ctest/children.c")

var flagNumbers = map[string]int{
	"none": 0, "r": unix.PROT_READ, "rw": unix.PROT_READ | unix.PROT_WRITE,
	"private": unix.MAP_PRIVATE, "shared": unix.MAP_SHARED, "fixed": unix.MAP_FIXED,
	"noreplace": unix.MAP_FIXED_NOREPLACE,
	"maymove":   unix.MREMAP_MAYMOVE, "remap_fixed": unix.MREMAP_FIXED,
	"dontunmap": unix.MREMAP_DONTUNMAP,
	"normal":    unix.MADV_NORMAL, "dontneed": unix.MADV_DONTNEED, "remove": unix.MADV_REMOVE,
	"free":     unix.MADV_FREE,
	"dontfork": unix.MADV_DONTFORK, "dofork": unix.MADV_DOFORK, "wipeonfork": unix.MADV_WIPEONFORK,
	"keeponfork": unix.MADV_KEEPONFORK,
	"dontdump":   unix.MADV_DONTDUMP, "dodump": unix.MADV_DODUMP,
	"nohang": unix.WNOHANG, "untraced": unix.WUNTRACED, "continued": unix.WCONTINUED,
}

func reserved(script string) string {
	return regexp.MustCompile(`mmap r 0 (\w+) none private anon`).ReplaceAllString(script,
		"mmap q 0 0x20000 none private anon\nmmap r q+0x4000 $1 none private|fixed anon")
}

// numbers replaces the names of flags by their numbers.
func numbers(script string) string {
	position := map[string][]int{
		"mmap": {4, 5}, "mremap": {5}, "mprotect": {3}, "madvise": {3}, "waitpid": {2},
		"map": {3}, "resize": {3}, "protect": {2}, "advise": {4},
	}
	var b strings.Builder
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		for _, i := range position[words[0]] {
			n := 0
			for name := range strings.SplitSeq(words[i], "|") {
				if v, ok := flagNumbers[name]; ok {
					n |= v
				} else {
					n |= number(name)
				}
			}
			words[i] = strconv.Itoa(n)
		}
		fmt.Fprintln(&b, strings.Join(words, " "))
	}
	return b.String()
}

func number(s string) int {
	return int(must(strconv.ParseInt(s, 0, 64)))
}

// goTwin is the main function of the C twin, in Go. It runs if SHM_TEST_TWIN is
// set.
func goTwin() {
	addrs := map[byte]unsafe.Pointer{}
	pids := map[byte]int{}
	mapped := mappingsTwin{}
	address := func(s string) unsafe.Pointer {
		if s[0] < 'a' || s[0] > 'z' {
			return nil // no script has another
		}
		register, offset, found := strings.Cut(s, "+")
		if !found {
			offset = "0"
		}
		return unsafe.Add(addrs[register[0]], number(offset))
	}
	outcome := func(err error) string {
		if err == nil {
			return "ok"
		}
		return unix.ErrnoName(err.(unix.Errno)) // plain, or this panics
	}
	placed := func(register string, p, asked unsafe.Pointer, exact bool, err error) string {
		if err != nil {
			return outcome(err)
		}
		addrs[register[0]] = p
		switch {
		case !exact:
			return "ok"
		case p == asked:
			return "ok there"
		}
		return "ok elsewhere"
	}
	wait := func(pid, options int) string {
		wpid, status, err := shm.Waitpid(pid, options)
		switch {
		case err != nil:
			return outcome(err)
		case wpid == 0:
			return "running"
		}
		return fmt.Sprintf("status 0x%x", uint32(status))
	}
	spawn := func(w []string) (int, error) {
		return shm.Fork(childFuncs[w[0]], address(w[1]), number(w[2]))
	}
	step := func(w []string) string {
		switch w[0] {
		case "echo":
			return strings.Join(w[1:], " ")
		case "mmap":
			flags, fd := number(w[5]), -1
			switch w[6] {
			case "anon":
				flags |= unix.MAP_ANONYMOUS
			case "/dev/zero":
				fd = must(unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0))
			case "/dev/zero:ro":
				fd = must(unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0))
			case "memfd":
				fd = must(unix.MemfdCreate("twin", unix.MFD_CLOEXEC))
				must(0, unix.Ftruncate(fd, 0x4000))
			}
			if fd != -1 {
				defer unix.Close(fd)
			}
			asked := address(w[2])
			p, err := shm.Mmap(asked, number(w[3]), number(w[4]), flags, fd, 0)
			return placed(w[1], p, asked, asked != nil, err)
		case "munmap":
			return outcome(shm.Munmap(address(w[1]), number(w[2])))
		case "mremap":
			flags := number(w[5])
			asked, dst := address(w[2]), address(w[6])
			p, err := shm.Mremap(asked, number(w[3]), number(w[4]), flags, dst)
			if flags&unix.MREMAP_FIXED != 0 {
				asked = dst
			}
			return placed(w[1], p, asked, flags == 0 || flags&unix.MREMAP_FIXED != 0, err)
		case "mprotect", "madvise", "mlock", "munlock":
			trap := map[string]uintptr{"mprotect": unix.SYS_MPROTECT, "madvise": unix.SYS_MADVISE,
				"mlock": unix.SYS_MLOCK, "munlock": unix.SYS_MUNLOCK}[w[0]]
			if _, _, errno := unix.Syscall(trap, uintptr(address(w[1])), uintptr(number(w[2])),
				uintptr(number(append(w, "0")[3]))); errno != 0 {
				return outcome(errno)
			}
			return "ok"
		case "rlimit":
			resource := map[string]int{"as": unix.RLIMIT_AS, "memlock": unix.RLIMIT_MEMLOCK,
				"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC}[w[1]]
			n := uint64(number(w[2]))
			if w[1] == "as" {
				statm := strings.Fields(string(must(os.ReadFile("/proc/self/statm"))))
				n += must(strconv.ParseUint(statm[0], 10, 64)) * uint64(os.Getpagesize())
			}
			var limit unix.Rlimit
			must(0, unix.Getrlimit(resource, &limit))
			limit.Cur = n
			return outcome(unix.Setrlimit(resource, &limit))
		case "setuid":
			return outcome(syscall.Setuid(number(w[1])))
		case "map", "resize", "moveto", "protect", "advise", "lock", "unlock", "close", "sum":
			name := w[1][0]
			result := mapped.step(w)
			if m := mapped[name]; m != nil {
				addrs[name] = m.Addr()
			}
			return result
		case "set", "get":
			b := []byte{0}
			local := []unix.Iovec{{Base: &b[0], Len: 1}}
			remote := []unix.RemoteIovec{{Base: uintptr(address(w[1])), Len: 1}}
			if w[0] == "get" {
				if _, err := unix.ProcessVMReadv(os.Getpid(), local, remote, 0); err != nil {
					return outcome(err)
				}
				return strconv.Itoa(int(b[0]))
			}
			b[0] = byte(number(w[2]))
			_, err := unix.ProcessVMWritev(os.Getpid(), local, remote, 0)
			return outcome(err)
		case "maps":
			return testenv.MapsAt(uintptr(address(w[1])))
		case "child":
			pid, err := spawn(w[1:])
			if err != nil {
				return outcome(err)
			}
			return wait(pid, 0)
		case "spawn":
			pid, err := spawn(w[2:])
			pids[w[1][0]] = pid
			return outcome(err)
		case "kill":
			return outcome(unix.Kill(pids[w[1][0]], unix.Signal(number(w[2]))))
		case "waitpid":
			pid := os.Getpid()
			if w[1] != "none" {
				pid = pids[w[1][0]]
			}
			return wait(pid, number(w[2]))
		}
		return "no command " + w[0]
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(step(strings.Fields(lines.Text())))
	}
}

var childFuncs = map[string]shm.ChildFunc{
	"exit": ctest.Exit, "read": ctest.Read, "write": ctest.Write, "swap": ctest.Swap,
	"raise": ctest.Raise, "dump": ctest.Dump, "pause": ctest.Pause, "chain": ctest.Chain,
	"unmap": ctest.Unmap, "remap": ctest.Remap, "threads": ctest.Threads, "fresh": ctest.Fresh,
	"malloc": ctest.Malloc, "locked": ctest.Locked,
}

// mappingsTwin does by methods of a Mapping what the C twin does by system
// calls.
type mappingsTwin map[byte]*shm.Mapping

func (twin mappingsTwin) step(w []string) string {
	outcome := func(err error) string {
		if err == nil {
			return "ok"
		}
		var errno unix.Errno
		if !errors.As(err, &errno) {
			return err.Error()
		}
		return unix.ErrnoName(errno)
	}
	m := twin[w[1][0]]
	switch w[0] {
	case "map":
		sharing := map[int]shm.Sharing{unix.MAP_PRIVATE: shm.Private,
			unix.MAP_SHARED: shm.Shared}[number(w[3])]
		technique := map[string]shm.Technique{"anon": shm.Anonymous, "/dev/zero": shm.DevZero,
			"memfd": shm.Memfd}[w[4]]
		m, err := shm.Map(sharing, number(w[2]), &shm.Config{Technique: technique})
		twin[w[1][0]] = m
		return outcome(err)
	case "resize":
		return outcome(m.Resize(number(w[2]),
			map[int]shm.Move{0: shm.InPlace, unix.MREMAP_MAYMOVE: shm.MayMove}[number(w[3])]))
	case "moveto":
		return outcome(m.MoveTo(twin[w[2][0]]))
	case "protect":
		return outcome(m.Protect(map[int]shm.Protection{0: shm.NoAccess,
			unix.PROT_READ:                   shm.ReadOnly,
			unix.PROT_READ | unix.PROT_WRITE: shm.ReadWrite}[number(w[2])]))
	case "advise":
		return outcome(m.Advise(number(w[2]), number(w[3]), number(w[4])))
	case "lock":
		return outcome(m.Lock())
	case "unlock":
		return outcome(m.Unlock())
	case "close":
		return outcome(m.Close())
	}
	b := make([]byte, m.Len())
	local := unix.Iovec{Base: &b[0]}
	local.SetLen(len(b))
	got, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{local},
		[]unix.RemoteIovec{{Base: uintptr(m.Addr()), Len: len(b)}}, 0)
	if err != nil {
		return outcome(err)
	}
	var sum uint32
	for _, c := range b[:got] {
		sum = sum*31 + uint32(c)
	}
	return fmt.Sprintf("%d of %d: %d", got, len(b), sum)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
