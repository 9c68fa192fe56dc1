package shm

// Sandbox says what a child may do whose input could take it over. The zero
// value is for C code that computes: such a child uses its memory, reads and
// writes the descriptors that it has, and can do little else.
//
// A sandbox needs no privilege, and works in a container. The child has no
// capabilities, can open no files but Paths, and can make no system calls but
// those of Policy and Allow: see capabilities(7), landlock(7) and seccomp(2).
// It cannot gain privileges by execve(2). Calls of another ABI of the processor
// are denied.
//
// A child with a Sandbox has descriptors 0, 1, 2 and ForkConfig.KeepFDs only, as
// with CloseFDs. It can read all memory that the fork copied: Lean leaves out the
// Go heap, and neither C's heap, nor stacks, nor the environment. It can write to
// every Shared mapping of this process that is not in ReadOnly. It leaves no core
// dump, unless ForkConfig.Limits has RLIMIT_CORE.
type Sandbox struct {
	// Policy is the set of system calls that the child may make.
	Policy Policy

	// Allow are further system calls: unix.SYS_*. Each is allowed with all
	// arguments. Only clone(2), which makes threads, is allowed without the flags
	// that make namespaces or siblings.
	Allow []uintptr

	// Paths are the files and the folders that the child may open. With Compute,
	// Paths also allows the system calls for that. An open that no path allows fails
	// with EACCES, and does not end the child. The child can learn by stat(2) which
	// other files there are. PathWrite allows ftruncate(2), fallocate(2) and file
	// locks for all descriptors, those that the child inherits too: the kernel cannot
	// tell these from the others. Paths needs Linux 5.13, and 6.2 for PathWrite. With
	// Paths, Allow or Custom, shm_object_length of csrc/shm_child.h returns 0.
	Paths []PathRule

	// ReadOnly are ranges of a Shared Memfd mapping that the child can read,
	// and never write, not by mprotect(2) either. Other mappings of the same
	// object, such as those of MapFile, stay as they are.
	ReadOnly []Range

	// OnDeny says what happens to a child that makes any other system call.
	OnDeny Deny

	// Optional leaves out what the kernel lacks. Without Optional, Fork fails,
	// and the error names what is missing. Process.Sandboxed says what holds
	// for a child. Where the kernel has no landlock(7), Paths does not restrict
	// what the child opens.
	Optional bool
}

// Policy is a set of system calls.
type Policy int

const (
	// Compute allows what C code needs that computes: private memory that is not
	// executable, reading and writing of the descriptors that the child has, futexes,
	// clocks, sleep, random numbers, and the end of the child. Calls that C libraries
	// make in passing and can do without, such as the ioctl(2) of stdio, fail and do
	// not end the child.
	Compute Policy = iota

	// Custom allows nothing but Sandbox.Allow, and what each child needs to end, to
	// report a crash and to serve a pool.
	Custom
)

// PathRule allows a file, or a folder and all that is below it.
type PathRule struct {
	Path   string
	Access PathAccess
}

// PathAccess says what a child may do with files.
type PathAccess int

const (
	PathRead    PathAccess = iota // read files, list folders
	PathWrite                     // and write, make, rename and remove files and folders
	PathExecute                   // read, list and execute files (Sandbox.Allow needs execve)
)

// Range is a range of a mapping, in bytes. Offset is a multiple of the page
// size. So is Length, unless the range ends with the mapping.
type Range struct {
	Offset, Length int
}

// Deny says what happens when a child makes a system call that its [Sandbox]
// does not allow.
type Deny int

const (
	// Report ends the child by SIGSYS. ExitError.Denied names the system call.
	// The kernel has not made the call. A child that was taken over may handle
	// the signal and go on.
	Report Deny = iota

	// Errno lets the call fail with EPERM.
	Errno

	// Kill ends the child by SIGSYS, and the child runs no more code. No report
	// names the system call.
	Kill
)

// Sandboxed says what of a [Sandbox] holds for a child.
type Sandboxed struct {
	Filter   bool // whether system calls are filtered: seccomp(2)
	Landlock int  // the version of landlock(7) that restricts files, sockets and signals; 0 is none
	ReadOnly bool // whether the ranges of Sandbox.ReadOnly are read-only
}

// Denied is the system call that ended a child in a [Sandbox]. The kernel
// itself says that the child died of SIGSYS. The child says everything else: it
// writes this record, and a child that was taken over can write anything.
type Denied struct {
	Syscall uintptr // the number of the call, in the ABI of the call
	Name    string  // "openat", or "open (386)" for a call of another ABI

	PC     uintptr // the address after the call's instruction, usually in the C library
	Module string  // the file that has the instruction; empty if this process does not have it
	Offset uintptr // from the module's beginning in memory to PC, in bytes
	Symbol string  // the function that has the instruction; empty if it is not known
	Within uintptr // from the function's beginning to PC, in bytes
}
