package shm

import (
	"io"
	"os"
	"time"
)

// ForkConfig is the configuration of a child that [Mapping.Fork] makes. The
// child is set up before its function begins. If the set-up fails, there is no
// child, and Fork's error names the system call that failed.
type ForkConfig struct {
	// KillWithParent has the kernel kill the child (SIGKILL) when this process
	// ends, however it ends, or calls execve(2). PR_SET_PDEATHSIG applies to the
	// thread that forked, so one thread of this process forks all such children.
	// The thread is made when the program starts. Such a child therefore has the
	// network namespace, affinity, nice value, seccomp filters and capabilities
	// that the program's main thread had then, whichever thread calls Fork. The
	// kernel spares the child if the child or this process changes its user after
	// the fork (setuid(2)).
	KillWithParent bool

	// ProcessGroup makes the child the leader of a new process group (setpgid(2)).
	// The child's descendants are in the group, unless they leave it by setsid(2)
	// or setpgid(2). When the child has ended, the rest of the group is killed
	// (SIGKILL) before Wait returns. Kill kills the whole group at once, and so
	// does Call when its context ends. If this process ends first, the child's
	// descendants are not killed. Signals from a terminal, as by Ctrl-C, do not
	// reach the group.
	ProcessGroup bool

	// Lean leaves the Go heap out of the child (MADV_DONTFORK), so that the cost
	// of the fork does not depend on the size of the heap. The child gets SIGSEGV
	// if it touches Go memory. C code that keeps pointers to Go memory, pinned or
	// not, must not use them in the child. A child that C code forks at the same
	// moment lacks the Go heap, too. In a program built with -race, what the race
	// detector keeps of the heap is still copied.
	Lean bool

	// Limits are the resource limits that the child sets before its function runs
	// (setrlimit(2)). Without a limit for RLIMIT_NOFILE, the child has the soft
	// limit of descriptors that the program was started with, unless the program
	// has set another limit since. Go raises that limit for itself: see
	// [syscall.Setrlimit].
	Limits []Limit

	// Nice is added to the child's nice value: nice(2).
	Nice int

	// CloseFDs closes the child's descriptors above 2 (close_range(2)), except
	// KeepFDs and the descriptor that shm_object_length needs.
	CloseFDs bool

	// KeepFDs are open descriptors that CloseFDs leaves open. KeepFDs without
	// CloseFDs is an error.
	KeepFDs []int

	// Stdin, Stdout and Stderr are the child's descriptors 0, 1 and 2. If one
	// is nil, the child has that of this process. The child gets the descriptor
	// of an [os.File] itself, which is set to blocking mode (see [os.File.Fd]).
	// For any other writer, the child writes to a pipe, and a goroutine copies
	// from the pipe to the writer. If Stdout and Stderr are the same writer, no
	// two calls of its Write overlap. The children of a [Pool] each have pipes
	// of their own, and can write at the same time.
	//
	// Wait returns when all that the child has written is copied. If the writer
	// returns an error, the child gets SIGPIPE at its next write, and Wait
	// returns the error if the child's exit status is 0. A process that the
	// child leaves behind may keep the pipe open. What such a process writes is
	// copied until some tenths of a second after the child's end. Wait waits
	// ten seconds for a writer that does not return. The end of the child does
	// not flush its stdio: its C function calls fflush(3).
	Stdin          *os.File
	Stdout, Stderr io.Writer

	// Dir is the child's working directory. If Dir is empty, the child begins
	// in the working directory of this process. There is no field for the
	// environment. The child has a copy of it, in C's memory, and can change
	// the copy by setenv(3).
	Dir string

	// Arg is a number for the child's C function, which gets it from shm_arg of
	// shm_child.h. So each of several children of one mapping can know which
	// one it is.
	Arg uintptr

	// MemoryLimit is how many bytes of address space the child can map beyond
	// what it inherits (RLIMIT_AS). Beyond the limit, malloc(3) returns NULL
	// and mmap(2) fails with ENOMEM. 0 means no limit. An RLIMIT_AS in Limits
	// is different: it also counts the address space that Go has reserved,
	// which is large and grows with the program. MemoryLimit needs /proc.
	MemoryLimit int

	// NoOOMScore leaves the child's oom_score_adj at the value of this process. By
	// default the child's value is 1000, the highest. When memory runs out, the
	// kernel then kills the child before this process, even if this process has
	// more memory. The child's own children inherit the value. If the child cannot
	// write to /proc, the value stays. See proc_pid_oom_score_adj(5).
	NoOOMScore bool

	// NoCrashReport leaves SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT at their
	// default actions in the child. By default a handler records the place of a
	// crash for [ExitError], and then the child dies of the signal. The handler
	// opens and reads /proc/self/maps. Set NoCrashReport if a seccomp(2) filter
	// of the program would kill the child for opening that file.
	NoCrashReport bool

	// Sandbox restricts what the child can do. nil means no restriction: the child
	// can do what this process can. A Sandbox closes descriptors as CloseFDs does.
	Sandbox *Sandbox
}

// ForkServerConfig is the configuration of a [ForkServer].
type ForkServerConfig struct {
	// Fork is the configuration of each child. KillWithParent, Lean and
	// CloseFDs are always set. The descriptors in KeepFDs must stay open until
	// Close, because a new server may be needed. So must Stdin, Stdout and
	// Stderr if they are files.
	Fork ForkConfig

	// Init is a C function that the server runs once, before it makes children:
	// init(addr, length) of the mapping. Each child begins with what Init has
	// done: libraries that it loaded, tables that it filled, files that it
	// opened. Init must return 0. It must leave no thread running, and no robust
	// mutex locked. nil means that there is nothing to do.
	Init ChildFunc
}

// PoolConfig is the configuration of a [Pool].
type PoolConfig struct {
	// Fork is the configuration of each child. KillWithParent and ProcessGroup
	// are always set. CloseFDs is always set, unless InheritFDs is set.
	Fork ForkConfig

	// InheritFDs makes each child inherit all descriptors of this process that
	// are open when the child is forked. By default a child has descriptors 0,
	// 1, 2 and Fork.KeepFDs only. The children of a pool live long: a socket
	// that a child has inherited stays open until the child ends. An attacker
	// who controls a child can use everything that the child has inherited.
	InheritFDs bool

	// RestartRate is the number of children per second that may be forked to
	// replace lost children, after a burst of the same number. 0 means 100.
	// Calls wait when the rate is reached. So children that crash at once do
	// not make the program fork all the time.
	RestartRate int

	// ForkServer makes the pool fork its children from a small process instead
	// of this one: see [ForkServer]. Then replacing a child does not pause this
	// process, however much memory it has. Each child begins as a copy of this
	// process at the time of NewPool. ForkServer cannot be set with InheritFDs.
	ForkServer bool

	// Init is a C function that each child runs once, before its first call:
	// init(addr, length) of the mapping. With ForkServer, the fork server runs it
	// once for all: see [ForkServerConfig]. Init must return 0. Init runs before
	// a Fork.Sandbox restricts the child, and after all other settings. So a
	// child in a sandbox loads its libraries and opens its files in Init. If
	// Init fails, NewPool and the calls that need a new child return the reason.
	// NewPool waits for Init. Close kills a child in which Init runs. nil means
	// that there is nothing to do.
	Init ChildFunc

	// MaxIn and MaxOut are the most bytes that a call of Do or DoView can give
	// to a child, and get back. Each child has address space of that size,
	// which takes memory only as far as calls use it. 0 means 16 MiB, or 1 MiB
	// on a system with addresses of 32 bits. A kernel that never overcommits
	// charges for all of it: see Config.Reserve.
	MaxIn, MaxOut int

	// MaxCalls is how many calls a child serves before a new child replaces it.
	// 0 means no limit. MaxCalls bounds what a C library leaks, and how long a
	// child that was taken over can lie. With 1, each call gets a child of its
	// own. These replacements do not count for RestartRate.
	MaxCalls int

	// CPUTime is how much processor time a child may use for one call. The pool
	// kills a child that uses more, and the call's error wraps [ErrCPUTime]. Unlike
	// the deadline of a context, CPUTime does not end calls because the machine is
	// busy. Unlike RLIMIT_CPU, it counts for each call anew. The pool looks at the
	// child's time at intervals of a millisecond or more. The time of a child's own
	// children is not counted: a Sandbox denies them. 0 means no limit. See
	// clock_getcpuclockid(3).
	CPUTime time.Duration
}
