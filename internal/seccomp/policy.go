//go:build linux

package seccomp

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Files says what a process does with files.
type Files int

const (
	NoFiles Files = iota
	ReadFiles
	WriteFiles // and read them
)

// Policy says which system calls a filter lets through.
type Policy struct {
	Arch    string    // as GOARCH has it
	Compute bool      // what C code needs that computes: see compute
	Files   Files     // what it needs to open files, with Compute
	Allow   []uintptr // further calls, by number
	Denied  uint32    // the action of all other calls: unix.SECCOMP_RET_*

	// NoRemap has mremap(2) fail for want of memory, and libc copies instead. A mapping that
	// is longer, or mapped again, has pages of its object that the process had no more.
	NoRemap bool
}

const (
	allow  = unix.SECCOMP_RET_ALLOW
	answer = unix.SECCOMP_RET_ERRNO // with an errno value
)

// end is what each child does: it ends, dies of a signal that it sends itself, unmaps its set-up
// report, and serves the calls of a pool. The child's own process id is the only one that it can
// send signals to.
var end = map[string]rule{
	"exit exit_group rt_sigreturn sigreturn restart_syscall munmap": {allow, nil},
	"getpid gettid":      {allow, nil},
	"tgkill tkill kill":  {allow, []condition{{arg: 0, isSelf: true}}},
	"futex futex_time64": {allow, []condition{{arg: 1, mask: ^uint32(futexFlags), anyOf: futexes}}},
	"sendto":             {allow, []condition{{arg: 3, anyOf: wakeFlags}, {arg: 4, isNull: true}}},

	// The flags of clone3 cannot be seen. libc goes on with clone.
	"clone3": {answer | uint32(unix.ENOSYS), nil},
}

// wakeFlags are those with which a pool's child sends to the other end of a socket.
var wakeFlags = []uint32{unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL}

// Operations of futex(2) and their flags. Those on mutexes that inherit priorities are not here.
const futexFlags = 128 | 256 // FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME

var futexes = []uint32{
	0,    // FUTEX_WAIT
	1,    // FUTEX_WAKE
	3, 4, // FUTEX_REQUEUE, FUTEX_CMP_REQUEUE
	5,     // FUTEX_WAKE_OP
	9, 10, // FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET
}

// compute is what C code needs that computes: memory that is private and not executable, reading
// and writing descriptors that it has, futexes, time. Calls that libraries make in passing, and can
// do without, return an error.
var compute = map[string]rule{
	"read write readv writev pread64 pwrite64 preadv pwritev lseek _llseek close": {allow, nil},
	"fstat fstat64 poll ppoll ppoll_time64":                                       {allow, nil},

	"fcntl fcntl64": {allow, []condition{{arg: 1, anyOf: descriptorQueries}}},

	"brk mremap": {allow, nil},
	"mprotect":   {allow, []condition{notExecutable}},
	"madvise":    {allow, []condition{{arg: 2, anyOf: advices}}},

	"rt_sigprocmask pause getrandom gettimeofday time nanosleep": {allow, nil},
	"clock_gettime clock_getres clock_nanosleep":                 {allow, ownClock},
	"clock_gettime64 clock_getres_time64 clock_nanosleep_time64": {allow, ownClock},

	"getppid getuid geteuid getgid getegid":                 {allow, nil},
	"getuid32 geteuid32 getgid32 getegid32":                 {allow, nil},
	"sched_yield set_robust_list rseq getrlimit ugetrlimit": {allow, nil},
	"sched_getaffinity":                                     {allow, []condition{itself}},

	"prlimit64": {allow, []condition{itself, {arg: 2, isNull: true}}},

	// fstat(3), qsort(3) and stdio
	"newfstatat fstatat64": {answer | uint32(unix.EACCES), []condition{emptyPath(3)}},
	"statx":                {answer | uint32(unix.EACCES), []condition{emptyPath(2)}},
	"sysinfo":              {answer | uint32(unix.EPERM), nil},
	"ioctl":                {answer | uint32(unix.ENOTTY), aboutTerminals},
}

var (
	notExecutable = condition{arg: 2, mask: unix.PROT_EXEC, anyOf: []uint32{0}}
	itself        = condition{arg: 0, anyOf: []uint32{0}}

	// No other process's clock, whose number is negative.
	ownClock = []condition{{arg: 0, atMost: unix.CLOCK_TAI}}

	descriptorQueries = []uint32{unix.F_GETFD, unix.F_GETFL}
	terminalQueries   = []uint32{unix.TCGETS, unix.TIOCGWINSZ}
	aboutTerminals    = []condition{{arg: 1, anyOf: terminalQueries}}
)

func emptyPath(arg uint32) condition {
	return condition{arg: arg, mask: unix.AT_EMPTY_PATH, anyOf: []uint32{unix.AT_EMPTY_PATH}}
}

// advices are those of madvise(2) that concern a process alone.
var advices = []uint32{
	unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_SEQUENTIAL, unix.MADV_WILLNEED,
	unix.MADV_DONTNEED, unix.MADV_FREE, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE,
	unix.MADV_DONTDUMP, unix.MADV_DODUMP, unix.MADV_POPULATE_READ, unix.MADV_POPULATE_WRITE,
	102, 103, // MADV_GUARD_INSTALL, MADV_GUARD_REMOVE
}

// mapping returns the rule for mmap(2), if the type of the mapping is one of these. The kernel's
// huge pages belong to the whole machine, and so are not for a child to take.
func mapping(types ...uint32) rule {
	const kind = unix.MAP_TYPE | unix.MAP_ANONYMOUS | unix.MAP_HUGETLB | unix.MAP_LOCKED
	return rule{allow, []condition{notExecutable, {arg: 3, mask: kind, anyOf: types}}}
}

const privateMemory = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS

// readFiles is what code needs that reads files. landlock(7) says which.
var readFiles = map[string]rule{
	"openat": opening(2),
	"open":   opening(1),

	"stat lstat stat64 lstat64 newfstatat fstatat64 statx": {allow, nil},
	"statfs fstatfs statfs64 fstatfs64":                    {allow, nil},
	"access faccessat faccessat2 getdents64 dup":           {allow, nil},
	"fadvise64 fadvise64_64 arm_fadvise64_64":              {allow, nil},
	"fcntl fcntl64": {allow, []condition{{arg: 1, anyOf: descriptorChanges}}},

	// The flags of openat2 cannot be seen.
	"openat2": {answer | uint32(unix.ENOSYS), nil},
}

// descriptorChanges are the operations of fcntl(2) on a process's own descriptors.
var descriptorChanges = append([]uint32{
	unix.F_SETFD, unix.F_DUPFD, unix.F_DUPFD_CLOEXEC}, descriptorQueries...)

// opening returns the rule for open(2) for reading. Landlock before Linux 6.2 does not know
// truncation.
func opening(flags uint32) rule {
	const writing = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
	return rule{allow, []condition{{arg: flags, mask: writing, anyOf: []uint32{0}}}}
}

// writeFiles is what code needs that writes files, beside readFiles.
var writeFiles = map[string]rule{
	"openat open ftruncate ftruncate64 fallocate fsync fdatasync":   {allow, nil},
	"mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2": {allow, nil},
	"fcntl fcntl64": {allow, []condition{{arg: 1, anyOf: append(fileLocks, descriptorChanges...)}}},
}

var fileLocks = []uint32{5, 6, 7, 12, 13, 14} // F_GETLK, F_SETLK, F_SETLKW, and those of 64 bits

// notForThreads are the flags of clone(2) that make namespaces, and children of the parent.
const notForThreads = unix.CLONE_PARENT | unix.CLONE_PTRACE |
	unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Filter assembles the filter of a policy.
func (p Policy) Filter() (Filter, error) {
	a := arches[p.Arch]
	if a == nil {
		return Filter{}, fmt.Errorf("there is no seccomp(2) filter for %s: %w", p.Arch, unix.ENOSYS)
	}
	rules := map[uint32]rule{}
	add := func(named map[string]rule) {
		for names, r := range named {
			for name := range strings.FieldsSeq(names) {
				if n, found := a.calls().numbers[name]; found {
					rules[n] = r
				}
			}
		}
	}
	add(end)
	if p.Compute {
		add(compute)
		add(p.passing())
		types := []uint32{privateMemory}
		if p.Files >= ReadFiles {
			add(readFiles)
			types = append(types, unix.MAP_PRIVATE)
		}
		if p.Files >= WriteFiles {
			add(writeFiles)
		}
		add(map[string]rule{a.mmap(): mapping(types...)})
	}
	if err := p.allow(a, rules); err != nil {
		return Filter{}, err
	}
	if p.NoRemap && p.Compute {
		add(map[string]rule{"mremap": {answer | uint32(unix.ENOMEM), nil}})
	}
	return assemble(a.audit, rules, p.Denied)
}

// passing returns rules for what C libraries call in passing, which depend on what becomes of a
// denied call. By a trap, the process's handler of SIGSYS answers: see csrc/denial.c. SIGSYS must
// not be blocked. The kernel itself can only see how a file is opened, and not which.
func (p Policy) passing() map[string]rule {
	const inPassing = unix.O_RDONLY | unix.O_CLOEXEC
	const sigUnblock = 1 // SIG_UNBLOCK
	switch p.Denied & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_TRAP:
		unblocks := []condition{{arg: 0, anyOf: []uint32{sigUnblock}}}
		return map[string]rule{"rt_sigprocmask": {allow, unblocks}}
	case unix.SECCOMP_RET_KILL_PROCESS:
		reads := []condition{{arg: 2, anyOf: []uint32{inPassing}}}
		return map[string]rule{"openat": {answer | uint32(unix.EACCES), reads}}
	}
	return nil
}

// mmap returns the name of the call that has mmap's arguments. The mmap of 386 has a pointer to
// them.
func (a *arch) mmap() string {
	if a.is64 {
		return "mmap"
	}
	return "mmap2"
}

// allow adds the calls that the caller allows. clone(2) makes threads and processes, and no
// namespaces or siblings.
func (p Policy) allow(a *arch, rules map[uint32]rule) error {
	for i, n := range p.Allow {
		if n >= x32 {
			return fmt.Errorf("no system call has the number %d of Allow[%d]: %w",
				n, i, unix.EINVAL)
		}
		r := rule{allow, nil}
		if a.calls().names[uint32(n)] == "clone" {
			r.when = []condition{{arg: 0, mask: notForThreads, anyOf: []uint32{0}}}
		}
		rules[uint32(n)] = r
	}
	return nil
}
