package shm

import (
	"unsafe"
)

// The Go faces of the structs in csrc/control.h, which says who writes what. layout_cgo.go checks at compile time
// that sizes and offsets are the same.

const (
	cacheLine = 64   // SHM_CACHE_LINE
	maxModule = 1024 // SHM_MAX_MODULE
)

// controlPage is struct shm_control.
type controlPage struct {
	request request
	reply   reply
	crash   crashRecord
}

// request is struct shm_request. C writes it, but for waits.
type request struct {
	seq    uint32
	waits  uint32 // waitsByFutex or waitsBySocket
	child  uintptr
	offset uintptr
	length uintptr
	_      [cacheLine - 2*4 - 3*unsafe.Sizeof(uintptr(0))]byte
}

// How the parent waits for a reply: enum shm_wait.
const (
	waitsByFutex = iota
	waitsBySocket
)

// reply is struct shm_reply. The child writes it.
type reply struct {
	startedSeq uint32
	seq        uint32
	result     int32
	_          [cacheLine - 3*4]byte
}

// crashRecord is struct shm_crash. The child writes it.
type crashRecord struct {
	state     uint32 // crashNone and those that follow
	sig, code int32
	calledGo  uint32
	addr, pc  uint64
	base      uint64
	module    [maxModule]byte
	_         [cacheLine - 4*4 - 3*8]byte
}

// How much of a crash is recorded: enum shm_crash_state.
const (
	crashNone = iota
	crashClaimed
	crashRecorded
	crashLocated
)

// calledGoStatus is SHM_CALLED_GO of csrc/go_guard.h.
const calledGoStatus = 2

// setUpReport is struct shm_set_up_report.
type setUpReport struct {
	state uint32 // setUpPending, setUpDone or setUpFailed
	call  int32  // an index of setUpCalls
	which int32  // an index of forkArgs.limits
	err   int32
}

// How the child's set-up went: enum shm_set_up_state.
const (
	setUpPending = iota
	setUpDone
	setUpFailed
)

// setUpCalls are the names of what enum shm_set_up_call stands for.
var setUpCalls = [...]string{"none", "prctl", "setpgid", "close_range", "nice", "setrlimit"}

// The Go faces of what csrc/child.h has.
type forkArgs struct {
	child  ChildFunc
	addr   unsafe.Pointer
	length uintptr

	flags, nice, limitsCount, wakeFD int32
	limits                           [maxLimits]forkLimit

	control  *controlPage
	call     unsafe.Pointer
	pid      int32
	forkTime int64
}

type forkLimit struct {
	resource int64
	cur, max uint64
}

const maxLimits = 16

const (
	killWithParent = 1 << iota
	reportCrash
	closeFDs
	processGroup
	awaitSetUp
	serve
	oomFirst
)

type memoryRange struct{ addr, length uintptr }

// objectEntry is struct shm_object of csrc/shm_child.h: an object behind a shared memfd.
type objectEntry struct {
	start, end uintptr // start is 0 while the entry is free
	fd         int64
	dev, ino   uint64
}

// How long is the object behind a shared Memfd mapping? A child's C looks the mapping up by its address, in a table
// that it inherited: see csrc/shm_child.h. The table lies outside the Go heap, which a Lean child lacks.

// objectTable is struct shm_objects.
type objectTable struct {
	next    *objectTable
	entries [100]objectEntry
}
