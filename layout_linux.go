package shm

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
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

// setUpReport is struct shm_set_up_report.
type setUpReport struct {
	state uint32 // setUpPending, setUpDone or setUpFailed
	call  int32  // an index of setUpCalls
	which int32  // an index of the order's limits
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

// failure returns what failed in the set-up of a child that was ordered.
func (r *setUpReport) failure(o *forkOrder) error {
	call := "set-up"
	if r.call >= 0 && int(r.call) < len(setUpCalls) {
		call = setUpCalls[r.call]
	}
	err := os.NewSyscallError(call, unix.Errno(r.err))
	if call == "setrlimit" && r.which >= 0 && r.which < o.limitsCount {
		return fmt.Errorf("ForkConfig.Limits[%d] (%v): %w", r.which, o.limits[r.which], err)
	}
	return err
}
