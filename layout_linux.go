package shm

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/seccomp"
)

// This file declares the structs that Go and C share. csrc/control.h says who writes which part of
// them. shm_cgo.go checks at compile time that sizes and offsets are the same. On 32-bit
// processors Go aligns 64-bit numbers to 4 bytes, and some C compilers to 8. So each stands at a
// multiple of 8 bytes there, too, and so does a struct's end.

const (
	cacheLine = 64   // SHM_CACHE_LINE
	maxModule = 1024 // SHM_MAX_MODULE
	maxFrames = 16   // SHM_MAX_FRAMES
)

// controlPage is struct shm_control.
type controlPage struct {
	request request
	reply   reply
	crash   crashRecord
}

// request is struct shm_request. C writes it, and Go writes waits, too.
type request struct {
	seq      uint32
	waits    uint32 // waitsByFutex or waitsBySocket
	kind     uint32
	_        uint32
	function uintptr
	offset   uintptr
	length   uintptr
	_        [cacheLine - 4*4 - 3*unsafe.Sizeof(uintptr(0))]byte
}

// job is struct shm_job: what a pool's child is to do.
type job struct {
	kind           uint32 // requestCall or requestDo
	function       unsafe.Pointer
	offset, length uintptr
}

// These constants are enum shm_request_kind.
const (
	requestCall = iota
	requestDo
)

// These constants are enum shm_wait: how the parent waits for a reply.
const (
	waitsByFutex = iota
	waitsBySocket
)

// reply is struct shm_reply. The child writes it.
type reply struct {
	startedSeq uint32
	seq        uint32
	outLength  uint64
	outUsed    uint64
	result     int32
	_          [cacheLine - 2*4 - 2*8 - 4]byte
}

// crashRecord is struct shm_crash. The child writes it.
type crashRecord struct {
	state     uint32 // crashNone and the constants after it
	sig, code int32
	calledGo  uint32
	addr, pc  uint64
	base      uint64
	syscall   int32
	arch      uint32
	frames    uint32
	_         uint32
	frame     [maxFrames]frameRecord
	module    [maxModule]byte
	_         [-(8*4 + 3*8 + maxFrames*24) & (cacheLine - 1)]byte
}

// frameRecord is struct shm_frame.
type frameRecord struct{ pc, base, inode uint64 }

// These constants are enum shm_crash_state: how much of a crash is recorded.
const (
	crashNone = iota
	crashClaimed
	crashRecorded
	crashLocated
)

// calledGoStatus is SHM_CALLED_GO of csrc/go_guard.h.
const calledGoStatus = 2

// setUpReport is struct shm_set_up.
type setUpReport struct {
	state uint32 // setUpPending, setUpDone or setUpFailed
	call  int32  // an index of setUpCalls
	which int32  // which limit failed, what Init returned, or how many threads there are
	err   int32

	sandboxed int32 // filterHolds, landlockHolds
}

// These constants are enum shm_sandboxed: what of a sandbox holds.
const (
	filterHolds = 1 << iota
	landlockHolds
)

// These constants are enum shm_set_up_state: the result of the child's set-up.
const (
	setUpPending = iota
	setUpDone
	setUpFailed
)

// setUpCalls are the names of the system calls of enum shm_set_up_call.
var setUpCalls = [...]string{"none", "prctl", "setpgid", "close_range", "nice", "setrlimit",
	"mmap", "capset", "prctl PR_SET_NO_NEW_PRIVS", "landlock_restrict_self", "seccomp",
	"Init",
	"clone CLONE_PARENT", "prctl PR_GET_TID_ADDRESS", "get_robust_list", "robust mutex", "threads",
	"dup2", "fchdir", "setrlimit"}

// These constants are the first and the last call of a sandbox.
const (
	setUpMmap    = 6
	setUpSeccomp = 10
)

// These constants are those of enum shm_set_up_call that are no system call, or that only a fork
// server makes.
const (
	setUpInit = iota + setUpSeccomp + 1
	setUpCloneParent
	setUpTidAddress
	setUpRobustList
	setUpRobustMutex
	setUpThreads
	setUpDup2
	setUpFchdir
	setUpMemoryLimit
)

// forkArgs is struct shm_fork_args of csrc/child.h.
type forkArgs struct {
	init   ChildFunc // runs at the end of the set-up, or nil
	child  ChildFunc
	addr   unsafe.Pointer
	length uintptr

	flags, nice, limitsCount, wakeFD int32
	files                            [3]int32
	dirFD                            int32
	drop                             [2]int32
	memoryLimit                      uint64
	limits                           [maxLimits]forkLimit
	arg                              uintptr
	slot, slotOut, maxOut            uintptr
	owner                            uint32

	control  *controlPage
	call     unsafe.Pointer
	pid      int32
	forkTime int64
}

// forkLimit is struct shm_limit.
type forkLimit struct {
	resource int64
	cur, max uint64
}

const maxLimits = 16 // SHM_MAX_LIMITS

// sandboxArgs is struct shm_sandbox of csrc/sandbox.h.
type sandboxArgs struct {
	optional, report, landlockFD, readOnlyFD int32
	readOnlyCount, filterLength, selfCount   uint32
	_                                        uint32
	self                                     [maxSelf]uint32
	readOnly                                 [maxReadOnly]readOnlySpan
	filter                                   [seccomp.MaxInstructions]unix.SockFilter
}

// readOnlySpan is struct shm_span.
type readOnlySpan struct {
	addr, length uintptr
	offset       int64
}

const (
	maxSelf     = 8  // SHM_MAX_SELF
	maxReadOnly = 64 // SHM_MAX_READ_ONLY
)

// These constants are the flags of csrc/child.h.
const (
	killWithParent = 1 << iota
	reportCrash
	closeFDs
	processGroup
	awaitSetUp
	serve
	oomFirst
	serveForks
	awaitFunction
)

// memoryRange is struct shm_range.
type memoryRange struct{ addr, length uintptr }

// objectEntry is struct shm_object of csrc/shm_child.h: the memfd of a shared
// mapping.
type objectEntry struct {
	start, end uintptr // start is 0 while the entry is free
	fd         int64
	dev, ino   uint64
}

// objectTable is struct shm_objects. A child's C code finds the length of a
// Memfd mapping's object by the mapping's address, in a table that the child
// has inherited: see csrc/shm_child.h. The table is not in the Go heap, because
// a Lean child does not have the Go heap.
type objectTable struct {
	next    *objectTable
	_       [8 - unsafe.Sizeof(uintptr(0))]byte
	entries [100]objectEntry
}
