package shm

import (
	"fmt"
	"unsafe"
)

// Sharing says who sees what is written to a mapping. The zero value is invalid.
type Sharing int

const (
	_       Sharing = iota
	Private         // MAP_PRIVATE: a child gets a copy, made page by page when one side writes
	Shared          // MAP_SHARED: parent and children see each other's writes
)

// String returns the flag's name, "MAP_PRIVATE" or "MAP_SHARED".
func (s Sharing) String() string {
	switch s {
	case Private:
		return "MAP_PRIVATE"
	case Shared:
		return "MAP_SHARED"
	}
	return fmt.Sprintf("Sharing(%d)", int(s))
}

// Technique is how a mapping's memory is had from the kernel.
type Technique int

const (
	BuildDefault Technique = iota // what DefaultTechnique returns
	Anonymous                     // MAP_ANONYMOUS
	DevZero                       // a mapping of /dev/zero
	Memfd                         // memfd_create(2): shared, it grows, and children forked earlier reach what is new
)

// String returns "MAP_ANONYMOUS", "/dev/zero" or "memfd".
func (t Technique) String() string {
	switch t {
	case BuildDefault:
		return "build default"
	case Anonymous:
		return "MAP_ANONYMOUS"
	case DevZero:
		return "/dev/zero"
	case Memfd:
		return "memfd"
	}
	return fmt.Sprintf("Technique(%d)", int(t))
}

// HugePages says which page size a mapping asks for.
type HugePages int

const (
	HugeNone        HugePages = iota // pages of the usual size
	HugeTransparent                  // aligned to the size of such a page, madvise(2) MADV_HUGEPAGE
	HugeExplicit                     // MAP_HUGETLB, or HugeNone where no such page is left: see Mapping.Huge
)

// String returns "HugeNone", "HugeTransparent" or "HugeExplicit".
func (h HugePages) String() string {
	switch h {
	case HugeNone:
		return "HugeNone"
	case HugeTransparent:
		return "HugeTransparent"
	case HugeExplicit:
		return "HugeExplicit"
	}
	return fmt.Sprintf("HugePages(%d)", int(h))
}

// Config holds what [Map] is asked for beyond sharing and length. What cannot be had together is
// refused with [errors.ErrUnsupported], never ignored.
type Config struct {
	Technique Technique

	// Reserve is address space kept for growing in place, in bytes from the mapping's address on; 0
	// keeps none beyond length. Up to it Resize never moves. It counts against RLIMIT_AS, and takes
	// no memory. A shared Anonymous or DevZero mapping can grow up to it too.
	//
	// Where the kernel never overcommits (/proc/sys/vm/overcommit_memory is 2) it charges all of a shared
	// Anonymous or DevZero mapping's reserve at once, and each fork is charged all private memory of the
	// program again: what exceeds the limit fails with ENOMEM. There, use Memfd, which is charged for the
	// pages in use, and ForkConfig.Lean, which leaves the Go heap out. See proc_sys_vm(5).
	Reserve int

	// Huge asks for huge pages, of the kernel's default size: 2 MiB on most machines. HugeExplicit goes with neither DevZero, Reserve nor Guard. The
	// machine sets its pages aside for the mapping, not for copies of a private one: a child that writes to
	// it when none are left gets SIGBUS.
	Huge HugePages

	// Populate faults every page in now, and those that Resize adds. A machine without the memory is
	// an error then, and not a SIGBUS later: the object of a shared Memfd is allocated (fallocate(2)).
	Populate bool

	// Guard keeps an inaccessible page on each side: before the first byte, and behind the last page
	// that the mapping has or, with Reserve, may have.
	Guard bool

	// Name is shown in /proc/PID/maps where the kernel can: as /memfd:name for Memfd, as [anon:name] for
	// private Anonymous memory of a kernel that has CONFIG_ANON_VMA_NAME.
	Name string
}

// Move says whether [Mapping.Resize] may give the mapping another address.
type Move int

const (
	InPlace Move = iota // flags 0: ENOMEM where the pages behind are taken
	MayMove             // MREMAP_MAYMOVE: what Bytes, Addr, At and Slice returned becomes invalid
)

// Protection is what may be done with a mapping's memory. What it forbids is SIGSEGV.
type Protection int

const (
	NoAccess  Protection = iota // PROT_NONE
	ReadOnly                    // PROT_READ
	ReadWrite                   // PROT_READ|PROT_WRITE: what a mapping has at first
)

// ChildFunc is a C function that a child runs: int (*)(void *addr, size_t length).
// A program has one from cgo, by shm.ChildFunc(C.my_child).
type ChildFunc unsafe.Pointer
