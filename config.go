package shm

import (
	"fmt"
	"unsafe"
)

// Sharing says which processes see a write to a mapping. The zero value is
// invalid.
type Sharing int

const (
	_ Sharing = iota

	// Private is MAP_PRIVATE. A child gets a copy of the memory. The kernel
	// copies a page when parent or child writes to it.
	Private

	// Shared is MAP_SHARED. Parent and children see each other's writes.
	Shared
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

// Technique says how the package asks the kernel for memory.
type Technique int

const (
	BuildDefault Technique = iota // the technique that DefaultTechnique returns
	Anonymous                     // MAP_ANONYMOUS
	DevZero                       // a mapping of /dev/zero
	Memfd                         // memfd_create(2), whose shared mappings can grow
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
	HugeNone HugePages = iota // pages of the usual size

	// HugeTransparent is MADV_HUGEPAGE of madvise(2), with an address that is
	// aligned to huge pages.
	HugeTransparent

	// HugeExplicit is MAP_HUGETLB. If too few huge pages are left, the mapping
	// has pages of the usual size: see [Mapping.Huge].
	HugeExplicit
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

// Config has the optional settings of [Map]. The zero value has all defaults.
// [Map] does not ignore a setting: if the settings cannot be had together, the
// error wraps [errors.ErrUnsupported].
type Config struct {
	// Technique is how the kernel is asked for memory. The zero value is the
	// default of the build.
	Technique Technique

	// Reserve is the length, in bytes, up to which Resize can grow the mapping
	// in place. Map keeps that much address space, beginning at the mapping's
	// address. A shared Anonymous or DevZero mapping can grow up to Reserve
	// too. If Reserve is 0, or less than the mapping's length, no address space
	// is kept beyond the mapping. Reserved address space counts against
	// RLIMIT_AS, and takes no memory.
	//
	// A kernel that never overcommits (/proc/sys/vm/overcommit_memory is 2)
	// charges the whole reserve of a shared Anonymous or DevZero mapping at
	// once. Each fork is charged, too, for all private memory of the program.
	// Beyond the limit, the calls fail with ENOMEM. On such a machine use
	// Memfd, which is charged for the pages in use, and ForkConfig.Lean, which
	// leaves out the Go heap. See proc_sys_vm(5).
	Reserve int

	// Huge asks for huge pages of the kernel's default size, 2 MiB on most
	// machines. HugeExplicit cannot be combined with DevZero, Reserve or Guard.
	// For a HugeExplicit mapping the kernel sets huge pages aside. It sets none
	// aside for a child's copy of private memory: if no huge page is left, a
	// child that writes to the copy gets SIGBUS.
	Huge HugePages

	// Populate faults in all pages now, and later those that Resize adds. If
	// the machine has too little memory, Map and Resize fail. Without Populate,
	// a later access would be SIGBUS. The object of a shared Memfd is allocated
	// by fallocate(2).
	Populate bool

	// Guard keeps an inaccessible page on each side of the mapping. One is
	// before the first byte. The other is behind the last page, or with Reserve
	// behind the last page that the mapping can grow to.
	Guard bool

	// Name is shown in /proc/PID/maps if the kernel supports it. A Memfd
	// mapping is shown as /memfd:name. Private Anonymous memory is shown as
	// [anon:name] since Linux 5.17, if the kernel has CONFIG_ANON_VMA_NAME.
	Name string
}

// Move says whether [Mapping.Resize] may give the mapping another address.
type Move int

const (
	// InPlace keeps the address. Resize fails with ENOMEM if the addresses behind
	// the mapping are taken.
	InPlace Move = iota

	// MayMove is MREMAP_MAYMOVE. After a move, what Bytes, Addr, At and Slice
	// returned before is invalid.
	MayMove
)

// Protection says what a process may do with a mapping's memory. A forbidden
// access is SIGSEGV.
type Protection int

const (
	NoAccess  Protection = iota // PROT_NONE
	ReadOnly                    // PROT_READ
	ReadWrite                   // PROT_READ|PROT_WRITE: the protection of a new mapping
)

// ChildFunc is a C function that a child runs: int (*)(void *addr, size_t
// length). A program converts its own C function by shm.ChildFunc(C.my_child).
type ChildFunc unsafe.Pointer

// DoFunc is a C function that a [Pool]'s child runs with bytes in and bytes
// out:
//
//	int (*)(const void *in, size_t in_length, struct shm_out *out)
//
// The function makes its answer by shm_out_reserve of shm_child.h. A program
// converts its own C function by shm.DoFunc(C.parse).
type DoFunc unsafe.Pointer
