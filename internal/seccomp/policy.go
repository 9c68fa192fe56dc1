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
}

const (
	allow  = unix.SECCOMP_RET_ALLOW
	answer = unix.SECCOMP_RET_ERRNO // with an errno value
)

// end is what each child does: it ends, dies of a signal that it sends itself, unmaps its set-up
// report, and serves the calls of a pool. The child's own process id is the only one that it can
// send signals to.
var end = map[string]rule{
	"exit exit_group rt_sigreturn sigreturn restart_syscall munmap getpid gettid": {allow, nil},

	"tgkill kill":        {allow, []condition{{arg: 0, isSelf: true}}},
	"futex futex_time64": {allow, []condition{{arg: 1, mask: ^uint32(futexFlags), anyOf: futexes}}},
	"sendto": {allow, []condition{ // to the socket's other end, and not to an address
		{arg: 3, anyOf: []uint32{unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL}}, {arg: 4, isNull: true}}},
	"clone3": {answer | uint32(unix.ENOSYS), nil}, // its flags cannot be seen: libc goes on with clone
}

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
	"read write readv writev pread64 pwrite64 preadv pwritev lseek _llseek close fstat fstat64": {allow, nil},
	"poll ppoll ppoll_time64": {allow, nil},

	"brk mremap": {allow, nil},
	"mprotect":   {allow, []condition{notExecutable}},
	"madvise":    {allow, []condition{{arg: 2, anyOf: advices}}},

	"rt_sigprocmask pause getrandom gettimeofday time nanosleep": {allow, nil},
	"clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep clock_nanosleep_time64": {
		allow, []condition{{arg: 0, atMost: unix.CLOCK_TAI}}}, // and no other process's clock

	"sched_yield set_robust_list rseq getrlimit ugetrlimit": {allow, nil},
	"sched_getaffinity": {allow, []condition{{arg: 0, anyOf: []uint32{0}}}},
	"prlimit64":         {allow, []condition{{arg: 0, anyOf: []uint32{0}}, {arg: 2, isNull: true}}},
	"fcntl fcntl64":     {allow, []condition{{arg: 1, anyOf: []uint32{unix.F_GETFD, unix.F_GETFL}}}},

	"newfstatat fstatat64": {answer | uint32(unix.EACCES), []condition{emptyPath(3)}}, // it is fstat(3)
	"statx":                {answer | uint32(unix.EACCES), []condition{emptyPath(2)}},
	"sysinfo":              {answer | uint32(unix.EPERM), nil},                                                                   // by qsort(3)
	"ioctl":                {answer | uint32(unix.ENOTTY), []condition{{arg: 1, anyOf: []uint32{unix.TCGETS, unix.TIOCGWINSZ}}}}, // by stdio
}

var notExecutable = condition{arg: 2, mask: unix.PROT_EXEC, anyOf: []uint32{0}}

func emptyPath(arg uint32) condition {
	return condition{arg: arg, mask: unix.AT_EMPTY_PATH, anyOf: []uint32{unix.AT_EMPTY_PATH}}
}

// advices are those of madvise(2) that concern a process alone.
var advices = []uint32{
	unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_SEQUENTIAL, unix.MADV_WILLNEED, unix.MADV_DONTNEED, unix.MADV_FREE,
	unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE, unix.MADV_DONTDUMP, unix.MADV_DODUMP, unix.MADV_POPULATE_READ,
	unix.MADV_POPULATE_WRITE, 102, 103, // MADV_GUARD_INSTALL, MADV_GUARD_REMOVE
}

// mapping returns the rule for mmap(2), if the type of the mapping is one of these. The kernel's
// huge pages belong to the whole machine, and so are not for a child to take.
func mapping(types ...uint32) rule {
	return rule{allow, []condition{notExecutable, {
		arg: 3, mask: unix.MAP_TYPE | unix.MAP_ANONYMOUS | unix.MAP_HUGETLB | unix.MAP_LOCKED, anyOf: types}}}
}

const privateMemory = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS

// readFiles is what code needs that reads files. landlock(7) says which.
var readFiles = map[string]rule{
	"openat": opening(2),
	"open":   opening(1),
	"stat lstat stat64 lstat64 newfstatat fstatat64 statx statfs fstatfs statfs64 fstatfs64": {allow, nil},
	"access faccessat faccessat2 getdents64 dup fadvise64 fadvise64_64 arm_fadvise64_64":     {allow, nil},
	"openat2":       {answer | uint32(unix.ENOSYS), nil}, // its flags cannot be seen
	"fcntl fcntl64": {allow, []condition{{arg: 1, anyOf: []uint32{unix.F_GETFD, unix.F_GETFL, unix.F_SETFD, unix.F_DUPFD, unix.F_DUPFD_CLOEXEC}}}},
}

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
	"fcntl fcntl64": {allow, []condition{{arg: 1, anyOf: []uint32{
		unix.F_GETFD, unix.F_GETFL, unix.F_SETFD, unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, 5, 6, 7, 12, 13, 14}}}}, // F_GETLK to F_SETLKW64
}

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
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
	return assemble(a.audit, rules, p.Denied)
}

// mmap returns the name of the call that has mmap's arguments. mmap(2) of 386 has a pointer to them.
func (a *arch) mmap() string {
	if a.is64 {
		return "mmap"
	}
	return "mmap2"
}

// allow adds the calls that the caller allows. clone(2) makes threads and processes, and no
// namespaces.
func (p Policy) allow(a *arch, rules map[uint32]rule) error {
	for i, n := range p.Allow {
		if n >= x32 {
			return fmt.Errorf("Allow[%d] is %d: no system call has this number: %w", i, n, unix.EINVAL)
		}
		r := rule{allow, nil}
		if a.calls().names[uint32(n)] == "clone" {
			r.when = []condition{{arg: 0, mask: namespaces, anyOf: []uint32{0}}}
		}
		rules[uint32(n)] = r
	}
	return nil
}
