// Behaviour prints what a technique's memory does, by the library: the rows
// that behaviour.c prints in C, as "row<TAB>cell". Cells must not differ.
//
//	behaviour anonymous|devzero|memfd private|shared empty-folder
//
// A row that C cannot have begins with "library: ".
package main

/*
#include <stddef.h>
#include <unistd.h>

static int touch(void *at, size_t n) { (void)n; *(volatile char *)at = 1; return 0; }
static int is_set(void *at, size_t n) { (void)n; return *(volatile char *)at != 7; }
static int share(void *at, size_t n) {
	int set; char c;
	(void)n;
	if (read(((int *)at)[2], &c, 1) != 1)
		return 3;
	set = *(volatile char *)at != 7;
	((volatile char *)at)[1] = 8;
	return set;
}
static void *touch_address(void) { return (void *)touch; }
static void *is_set_address(void) { return (void *)is_set; }
static void *share_address(void) { return (void *)share; }
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

var (
	touch = shm.ChildFunc(C.touch_address())
	isSet = shm.ChildFunc(C.is_set_address())
	share = shm.ChildFunc(C.share_address())

	technique shm.Technique
	sharing   shm.Sharing
	page      = os.Getpagesize()
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: behaviour technique sharing empty-folder")
		os.Exit(2)
	}
	technique = map[string]shm.Technique{"anonymous": shm.Anonymous, "devzero": shm.DevZero,
		"memfd": shm.Memfd}[os.Args[1]]
	sharing = map[string]shm.Sharing{"private": shm.Private, "shared": shm.Shared}[os.Args[2]]
	identity()
	sharingRows()
	growth()
	aliases()
	advise("MADV_DONTNEED", unix.MADV_DONTNEED)
	advise("MADV_REMOVE", unix.MADV_REMOVE)
	advise("MADV_FREE", unix.MADV_FREE)
	advise("MADV_WIPEONFORK", unix.MADV_WIPEONFORK)
	advise("MADV_DONTFORK: the child has it", unix.MADV_DONTFORK)
	advise("MADV_HUGEPAGE", unix.MADV_HUGEPAGE)
	accounting()
	theRest()
	withoutDescriptors()
	withoutDev(os.Args[3])
}

func row(name, cell string) { fmt.Printf("%s\t%s\n", name, cell) }

// cell returns yes, or the name of the errno that err wraps.
func cell(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "yes"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func newMapping(length int) *shm.Mapping {
	m, err := shm.Map(sharing, length, &shm.Config{Technique: technique})
	if err != nil {
		fmt.Fprintln(os.Stderr, "behaviour:", err)
		os.Exit(2)
	}
	return m
}

// inChild runs f in a child: "yes" if it exits 0, "no" if 1, else its signal.
func inChild(f shm.ChildFunc, at unsafe.Pointer) string {
	pid, err := shm.Fork(f, at, page)
	if err != nil {
		return cell(err)
	}
	_, status, err := shm.Waitpid(pid, 0)
	switch {
	case err != nil:
		return cell(err)
	case status.Signaled():
		return unix.SignalName(status.Signal())
	case status.ExitStatus() == 0:
		return "yes"
	}
	return "no"
}

func identity() {
	m := newMapping(page)
	name, inode := "", "0"
	maps, _ := os.ReadFile("/proc/self/maps")
	for line := range strings.Lines(string(maps)) {
		var low, high uintptr
		_, _ = fmt.Sscanf(line, "%x-%x", &low, &high)
		if at := uintptr(m.Addr()); low <= at && at < high {
			fields := strings.Fields(line)
			inode, name = fields[4], strings.Join(fields[5:], " ")
		}
	}
	if name == "" {
		name = "none"
	}
	row("name in /proc/PID/maps", name)
	row("has an inode", map[bool]string{true: "no", false: "yes"}[inode == "0"])
	_ = m.Close()
}

func sharingRows() {
	m := newMapping(page)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		panic(err)
	}
	*(*int32)(unsafe.Add(m.Addr(), 8)) = int32(pipe[0])
	pid, err := shm.Fork(share, m.Addr(), page)
	if err != nil {
		panic(err)
	}
	m.Bytes()[0] = 7
	_, _ = unix.Write(pipe[1], []byte{0})
	_, status, _ := shm.Waitpid(pid, 0)
	row("child sees the parent's writes",
		map[bool]string{true: "yes", false: "no"}[status.ExitStatus() == 0])
	row("parent sees the child's writes",
		map[bool]string{true: "yes", false: "no"}[m.Bytes()[1] == 8])
	_ = m.Close()
}

// growth grows a memfd by Resize, as its descriptor is the library's. All other
// memory grows by the call as C has it, since Resize refuses what would be
// SIGBUS later.
func growth() {
	m := newMapping(page)
	if technique == shm.Memfd {
		if err := m.Resize(4*page, shm.MayMove); err != nil {
			row("grows by mremap", cell(err))
		} else {
			row("grows by mremap", inChild(touch, unsafe.Add(m.Addr(), 2*page)))
		}
	} else if p, err := shm.Mremap(m.Addr(), page, 4*page, unix.MREMAP_MAYMOVE, nil); err != nil {
		row("grows by mremap", cell(err))
	} else {
		row("grows by mremap", inChild(touch, unsafe.Add(p, 2*page)))
	}

	m = newMapping(4 * page)
	m.Bytes()[3*page] = 7
	p, err := shm.Mremap(m.Addr(), 4*page, page, 0, nil)
	if err == nil {
		p, err = shm.Mremap(p, page, 4*page, unix.MREMAP_MAYMOVE, nil)
	}
	switch {
	case err != nil:
		row("bytes after shrinking and growing again", cell(err))
	case *(*byte)(unsafe.Add(p, 3*page)) == 7:
		row("bytes after shrinking and growing again", "kept")
	default:
		row("bytes after shrinking and growing again", "zero")
	}

	m = newMapping(page)
	switch err := m.Resize(4*page, shm.MayMove); {
	case errors.Is(err, shm.ErrGrowShared):
		row("library: Resize past the first size", "refused, ErrGrowShared")
	default:
		row("library: Resize past the first size", cell(err))
	}
}

func aliases() {
	m := newMapping(page)
	m.Bytes()[0] = 7
	if p, err := shm.Mremap(m.Addr(), 0, page, unix.MREMAP_MAYMOVE, nil); err != nil {
		row("mremap of old size 0", cell(err))
	} else {
		row("mremap of old size 0",
			map[bool]string{true: "a second view", false: "new memory"}[*(*byte)(p) == 7])
	}
	p, err := shm.Mremap(m.Addr(), page, page, unix.MREMAP_MAYMOVE|unix.MREMAP_DONTUNMAP, nil)
	switch {
	case err != nil:
		row("MREMAP_DONTUNMAP", cell(err))
	case *(*byte)(p) != 7:
		row("MREMAP_DONTUNMAP", "lost")
	case m.Bytes()[0] == 7:
		row("MREMAP_DONTUNMAP", "both have the bytes")
	default:
		row("MREMAP_DONTUNMAP", "the old place reads zero")
	}
}

func advise(name string, advice int) {
	m := newMapping(page)
	m.Bytes()[0] = 7
	if err := m.Advise(0, page, advice); err != nil {
		row(name, cell(err))
		return
	}
	switch advice {
	case unix.MADV_DONTNEED, unix.MADV_REMOVE:
		row(name, map[bool]string{true: "keeps the bytes", false: "reads zero"}[m.Bytes()[0] == 7])
	case unix.MADV_WIPEONFORK:
		row(name,
			map[bool]string{true: "no effect",
				false: "the child reads zero"}[inChild(isSet, m.Addr()) == "yes"])
	case unix.MADV_DONTFORK:
		row(name, inChild(isSet, m.Addr()))
	default:
		row(name, "yes")
	}
	_ = m.Close()
}

func statusKiB(field string) int {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := bytes.Cut(status, []byte("\n"+field+":"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.Atoi(string(fields[0]))
	return kib
}

func accounting() {
	const length = 8 << 20
	fields := []string{"RssAnon", "RssShmem", "RssFile"}
	m := newMapping(length)
	before := map[string]int{}
	for _, f := range fields {
		before[f] = statusKiB(f)
	}
	for i := 0; i < length; i += page {
		m.Bytes()[i] = 1
	}
	most, where := 0, "none"
	for _, f := range fields {
		if more := statusKiB(f) - before[f]; more > most {
			most, where = more, f
		}
	}
	row("counts as, in /proc/PID/status", where)
	_ = m.Close()
}

func theRest() {
	m := newMapping(page)
	exec := func() error {
		_, _, errno := unix.Syscall(unix.SYS_MPROTECT, uintptr(m.Addr()), uintptr(page),
			unix.PROT_READ|unix.PROT_EXEC)
		if errno != 0 {
			return errno
		}
		return nil
	}
	row("may be executable (mprotect)", cell(exec()))
	name := append([]byte("a name"), 0)
	row("has a name of its own (PR_SET_VMA)",
		cell(unix.Prctl(unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME,
			uintptr(m.Addr()), uintptr(page), uintptr(unsafe.Pointer(&name[0])))))
	row("can be locked (mlock)", cell(m.Lock()))
	sealed := "no descriptor"
	if technique == shm.Memfd {
		sealed = "yes"
		if sharing == shm.Shared { // the library keeps a private memfd's descriptor to itself
			sealed = cell(m.Seal(unix.F_SEAL_GROW))
		}
	}
	row("can be sealed, and passed to a stranger", sealed)
}

func withoutDescriptors() {
	var saved unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &saved)
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: saved.Max})
	_, err := shm.Map(sharing, page, &shm.Config{Technique: technique})
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &saved)
	row("maps at the limit of descriptors", cell(err))
}

func withoutDev(empty string) {
	if err := unix.Chroot(empty); err != nil {
		row("maps in a chroot without /dev", "not tried")
		return
	}
	_, err := shm.Map(sharing, page, &shm.Config{Technique: technique})
	row("maps in a chroot without /dev", cell(err))
}
