//go:build linux && cgo

package shm

/*
#cgo CFLAGS: -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -fno-plt
#cgo !devzero CFLAGS: -DUSE_MAP_ANON

#cgo noescape shm_map
#cgo nocallback shm_map
#cgo noescape shm_mmap
#cgo nocallback shm_mmap
#cgo noescape shm_munmap
#cgo nocallback shm_munmap
#cgo noescape shm_mremap
#cgo nocallback shm_mremap
#cgo noescape shm_fork
#cgo nocallback shm_fork
#cgo noescape shm_fork_with
#cgo nocallback shm_fork_with
#cgo noescape shm_start_forker
#cgo nocallback shm_start_forker
#cgo noescape shm_control_slot
#cgo nocallback shm_control_slot
#cgo noescape shm_server_ask
#cgo nocallback shm_server_ask
#cgo noescape shm_server_answer
#cgo nocallback shm_server_answer
#cgo noescape shm_server_give_function
#cgo nocallback shm_server_give_function
#cgo noescape shm_reap_by_forker
#cgo nocallback shm_reap_by_forker
#cgo noescape shm_is_forkers_child
#cgo nocallback shm_is_forkers_child
#cgo noescape shm_control_free
#cgo nocallback shm_control_free
#cgo noescape shm_set_up_await
#cgo nocallback shm_set_up_await
#cgo noescape shm_pool_call
#cgo nocallback shm_pool_call
#cgo noescape shm_waitpid
#cgo nocallback shm_waitpid
#cgo noescape shm_waitid
#cgo nocallback shm_waitid
#cgo noescape shm_process_token
#cgo nocallback shm_process_token
#cgo noescape shm_set_owner
#cgo nocallback shm_set_owner

#include "csrc/stack.c"
#include "csrc/identity.c"
#include "csrc/owner.c"
#include "csrc/go_guard.c"
#include "csrc/shm.c"
#include "csrc/forker.c"
#include "csrc/control.c"
#include "csrc/frames.c"
#include "csrc/report.c"
#include "csrc/denial.c"
#include "csrc/close_fds.c"
#include "csrc/files.c"
#include "csrc/sandbox.c"
#include "csrc/set_up.c"
#include "csrc/fork_server.c"
#include "csrc/child.c"
#include "csrc/pool.c"
#include "csrc/object.c"
#include "csrc/layout.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/seccomp"
)

// The go command does not hash C files that a preamble includes from a folder
// (golang/go#24355). Because the files are embedded, the go command sees edits,
// and go mod vendor copies the files.
//
//go:embed csrc/*.[ch]
var _ embed.FS

// Mmap is mmap(2) as C has it. The error is a plain [unix.Errno].
//
//	void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
func Mmap(addr unsafe.Pointer, length, prot, flags, fd int, offset int64) (unsafe.Pointer, error) {
	var result unsafe.Pointer
	err := errno(C.shm_mmap(addr, C.size_t(length), C.int(prot), C.int(flags), C.int(fd),
		C.off_t(offset), &result))
	return result, err
}

// Munmap is munmap(2) as C has it. The error is a plain [unix.Errno].
//
//	int munmap(void *addr, size_t length);
func Munmap(addr unsafe.Pointer, length int) error {
	return errno(C.shm_munmap(addr, C.size_t(length)))
}

// Mremap is mremap(2) as C has it. Mremap always passes the fifth argument. The
// error is a plain [unix.Errno].
//
//	void *mremap(void *old_addr, size_t old_length, size_t new_length, int flags, void *new_addr);
func Mremap(oldAddr unsafe.Pointer, oldLength, newLength, flags int,
	newAddr unsafe.Pointer) (unsafe.Pointer, error) {
	var result unsafe.Pointer
	err := errno(C.shm_mremap(oldAddr, C.size_t(oldLength), C.size_t(newLength), C.int(flags),
		newAddr, &result))
	return result, err
}

// Fork is fork(2). The child runs the C function child(addr, length), and calls
// _exit(2) with the result. The child starts with every signal at its default
// action, and with no signal blocked. If the child's C calls an exported Go
// function, the child writes a line to stderr and exits with status 2. The
// error is a plain [unix.Errno]. The caller must reap the child: see [Waitpid].
//
//	pid_t fork(void);
func Fork(child ChildFunc, addr unsafe.Pointer, length int) (pid int, err error) {
	var p C.pid_t
	err = errno(C.shm_fork(C.shm_child(child), addr, C.size_t(length), &p))
	return int(p), err
}

// Waitpid is waitpid(2) as C has it, EINTR included. Unless options has
// WNOHANG, Waitpid holds an OS thread until a child changes state. The error is
// a plain [unix.Errno]. With a pid of -1, Waitpid also reaps the children of
// os/exec.
//
//	pid_t waitpid(pid_t pid, int *wstatus, int options);
func Waitpid(pid, options int) (wpid int, status unix.WaitStatus, err error) {
	var p C.pid_t
	var s C.int
	err = errno(C.shm_waitpid(C.pid_t(pid), C.int(options), &p, &s))
	return int(p), unix.WaitStatus(s), err
}

const defaultTechnique Technique = C.SHM_BUILD_DEFAULT

// mapMemory maps memory by a technique.
func mapMemory(technique Technique, sharing Sharing, length int) (unsafe.Pointer, error) {
	if technique != Anonymous && technique != DevZero {
		return nil, fmt.Errorf("%v, must be Anonymous or DevZero: %w", technique, unix.EINVAL)
	}
	var flags int
	switch sharing {
	case Private:
		flags = unix.MAP_PRIVATE
	case Shared:
		flags = unix.MAP_SHARED
	default:
		return nil, fmt.Errorf("%v, must be Private or Shared: %w", sharing, unix.EINVAL)
	}
	var call *C.char
	var addr unsafe.Pointer
	err := errno(C.shm_map(uint32(technique), C.size_t(length), C.int(flags), &call, &addr))
	if err != nil {
		return nil, os.NewSyscallError(C.GoString(call), err)
	}
	return addr, nil
}

// init starts the forker on the main thread, before the program's own code
// runs: see csrc/forker.h. If that fails, the first fork that needs the forker
// tries again, and returns the error.
func init() {
	hook.Forked = startForker
	hook.SetOwner = func(owner uint32) { C.shm_set_owner(C.uint32_t(owner)) }
	startForker()
}

func startForker() {
	if C.shm_start_forker() == 0 {
		hook.Threads = 1
	}
}

// fork forks a child as args says. Callers hold a lock: one call at a time.
func (args *forkArgs) fork(keep []int32, lean []memoryRange, box *sandboxArgs) error {
	err := errno(C.shm_fork_with((*C.struct_shm_fork_args)(unsafe.Pointer(args)),
		(*C.int)(unsafe.SliceData(keep)), C.size_t(len(keep)),
		(*C.struct_shm_range)(unsafe.Pointer(unsafe.SliceData(lean))), C.size_t(len(lean)),
		(*C.struct_shm_sandbox)(unsafe.Pointer(box))))
	if err == nil {
		return nil
	}
	return os.NewSyscallError(C.GoString((*C.char)(args.call)), err)
}

// askServer sends a fork server a request for a child as args says. fd is this
// process's end of the server's socket. Callers hold a lock: no other fork
// meanwhile.
func (args *forkArgs) askServer(fd uintptr, seq uint32) error {
	err := errno(C.shm_server_ask(C.int(fd), C.uint32_t(seq),
		(*C.struct_shm_fork_args)(unsafe.Pointer(args))))
	if err == nil {
		return nil
	}
	return os.NewSyscallError(C.GoString((*C.char)(args.call)), err)
}

// serverAnswer returns the child that a fork server has made for a request. It
// waits for the answer as long as timeout. server is the server's process id.
// The errors are EAGAIN if there is no answer yet, EPIPE if there will be none,
// EPROTO for anything else. If the server could not fork, the error is an
// *os.SyscallError.
func serverAnswer(fd uintptr, seq uint32, server int, timeout time.Duration) (pid int, err error) {
	var p C.pid_t
	var failed C.int
	err = errno(C.shm_server_answer(C.int(fd), C.uint32_t(seq), C.pid_t(server), C.int64_t(timeout),
		&p, &failed))
	if err != nil {
		return 0, err
	}
	if err = errno(failed); err != nil {
		return 0, os.NewSyscallError("clone", err)
	}
	return int(p), nil
}

// giveFunction gives a child its function, with the length of the mapping, if
// it waits for them.
func (p *controlPage) giveFunction(child ChildFunc, length int) {
	C.shm_server_give_function((*C.struct_shm_control)(unsafe.Pointer(p)), C.shm_child(child),
		C.size_t(length))
}

// reapByForker reaps a child that has ended, if the forker has forked it.
// Callers hold a lock: one call at a time.
func reapByForker(pid int) { C.shm_reap_by_forker(C.pid_t(pid)) }

// isForkersChild reports whether there is such a child, and the forker has
// forked it. Callers hold a lock: one call at a time.
func isForkersChild(pid int) bool { return C.shm_is_forkers_child(C.pid_t(pid)) != 0 }

// waitID is waitid(2). If options has WNOHANG and there is no change, wpid is
// 0. usage may be nil.
func waitID(idType, id, options int,
	usage *unix.Rusage) (wpid int, status unix.WaitStatus, err error) {
	var p C.pid_t
	var s C.int
	err = errno(C.shm_waitid(C.int(idType), C.int(id), C.int(options), &p, &s,
		(*C.struct_rusage)(unsafe.Pointer(usage))))
	return int(p), unix.WaitStatus(s), err
}

// awaitSetUp returns what the child reports of its set-up. It waits for that as
// long as timeout.
func (p *controlPage) awaitSetUp(timeout time.Duration) (report setUpReport) {
	C.shm_set_up_await((*C.struct_shm_control)(unsafe.Pointer(p)), C.int64_t(timeout),
		(*C.struct_shm_set_up)(unsafe.Pointer(&report)))
	return report
}

// firstObjects is the first table that a child's shm_object_length searches.
var firstObjects = (*objectTable)(unsafe.Pointer(&C.shm_objects))

// call posts a request, and waits about as long as timeout for the reply. call
// reports whether the child has replied.
func (p *controlPage) call(seq uint32, j *job, timeout time.Duration) bool {
	return C.shm_pool_call((*C.struct_shm_control)(unsafe.Pointer(p)), C.uint32_t(seq),
		(*C.struct_shm_job)(unsafe.Pointer(j)), C.int64_t(timeout)) != 0
}

// slot returns the first byte of the child's slot, which has so many bytes.
func (p *controlPage) slot(size uintptr) unsafe.Pointer {
	control := (*C.struct_shm_control)(unsafe.Pointer(p))
	return unsafe.Pointer(C.shm_control_slot(control, C.size_t(size)))
}

// unmap unmaps the control page, the pages around it, and the slot of so many
// bytes.
func (p *controlPage) unmap(slot uintptr) {
	C.shm_control_free((*C.struct_shm_control)(unsafe.Pointer(p)), C.size_t(slot))
}

// errno converts an errno value to an error. 0 is nil.
func errno(e C.int) error {
	if e == 0 {
		return nil
	}
	return unix.Errno(e)
}

// processTokenWord returns the word in which this process's token is. The
// kernel sets the word to 0 in a forked process.
func processTokenWord() *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(C.shm_process_token_word()))
}

// makeProcessToken returns this process's token, and makes it first if this
// process is a forked one.
func makeProcessToken() uint64 { return uint64(C.shm_process_token()) }

// Each line checks that a size or an offset of layout_linux.go is C's, too: another
// index than 0 does not compile.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(controlPage{})-C.sizeof_struct_shm_control]
	_ = [1]struct{}{}[unsafe.Sizeof(request{})-C.sizeof_struct_shm_request]
	_ = [1]struct{}{}[unsafe.Sizeof(job{})-C.sizeof_struct_shm_job]
	_ = [1]struct{}{}[unsafe.Sizeof(reply{})-C.sizeof_struct_shm_reply]
	_ = [1]struct{}{}[unsafe.Sizeof(crashRecord{})-C.sizeof_struct_shm_crash]
	_ = [1]struct{}{}[unsafe.Sizeof(frameRecord{})-C.sizeof_struct_shm_frame]
	_ = [1]struct{}{}[unsafe.Sizeof(setUpReport{})-C.sizeof_struct_shm_set_up]
	_ = [1]struct{}{}[unsafe.Sizeof(forkArgs{})-C.sizeof_struct_shm_fork_args]
	_ = [1]struct{}{}[unsafe.Sizeof(forkLimit{})-C.sizeof_struct_shm_limit]
	_ = [1]struct{}{}[unsafe.Sizeof(memoryRange{})-C.sizeof_struct_shm_range]
	_ = [1]struct{}{}[unsafe.Sizeof(sandboxArgs{})-C.sizeof_struct_shm_sandbox]
	_ = [1]struct{}{}[unsafe.Sizeof(readOnlySpan{})-C.sizeof_struct_shm_span]
	_ = [1]struct{}{}[unsafe.Sizeof(unix.SockFilter{})-C.sizeof_struct_shm_filter]
	_ = [1]struct{}{}[unsafe.Sizeof(objectEntry{})-C.sizeof_struct_shm_object]
	_ = [1]struct{}{}[unsafe.Sizeof(objectTable{})-C.sizeof_struct_shm_objects]

	_ = [1]struct{}{}[unsafe.Offsetof(controlPage{}.reply)-C.offset_reply]
	_ = [1]struct{}{}[unsafe.Offsetof(controlPage{}.crash)-C.offset_crash]
	_ = [1]struct{}{}[unsafe.Offsetof(request{}.waits)-C.offset_request_waits]
	_ = [1]struct{}{}[unsafe.Offsetof(request{}.function)-C.offset_request_function]
	_ = [1]struct{}{}[unsafe.Offsetof(request{}.length)-C.offset_request_length]
	_ = [1]struct{}{}[unsafe.Offsetof(job{}.length)-C.offset_job_length]
	_ = [1]struct{}{}[unsafe.Offsetof(reply{}.seq)-C.offset_reply_seq]
	_ = [1]struct{}{}[unsafe.Offsetof(reply{}.outUsed)-C.offset_reply_out_used]
	_ = [1]struct{}{}[unsafe.Offsetof(reply{}.result)-C.offset_reply_result]
	_ = [1]struct{}{}[unsafe.Offsetof(crashRecord{}.code)-C.offset_crash_code]
	_ = [1]struct{}{}[unsafe.Offsetof(crashRecord{}.addr)-C.offset_crash_addr]
	_ = [1]struct{}{}[unsafe.Offsetof(crashRecord{}.pc)-C.offset_crash_pc]
	_ = [1]struct{}{}[unsafe.Offsetof(crashRecord{}.base)-C.offset_crash_base]
	_ = [1]struct{}{}[unsafe.Offsetof(crashRecord{}.syscall)-C.offset_crash_syscall]
	_ = [1]struct{}{}[unsafe.Offsetof(crashRecord{}.frames)-C.offset_crash_frames]
	_ = [1]struct{}{}[unsafe.Offsetof(crashRecord{}.frame)-C.offset_crash_frame]
	_ = [1]struct{}{}[unsafe.Offsetof(crashRecord{}.module)-C.offset_crash_module]
	_ = [1]struct{}{}[unsafe.Offsetof(setUpReport{}.call)-C.offset_set_up_call]
	_ = [1]struct{}{}[unsafe.Offsetof(setUpReport{}.err)-C.offset_set_up_err]
	_ = [1]struct{}{}[unsafe.Offsetof(setUpReport{}.sandboxed)-C.offset_set_up_sandboxed]
	_ = [1]struct{}{}[unsafe.Offsetof(sandboxArgs{}.self)-C.offset_sandbox_self]
	_ = [1]struct{}{}[unsafe.Offsetof(sandboxArgs{}.readOnly)-C.offset_sandbox_read_only]
	_ = [1]struct{}{}[unsafe.Offsetof(sandboxArgs{}.filter)-C.offset_sandbox_filter]
	_ = [1]struct{}{}[unsafe.Offsetof(forkArgs{}.flags)-C.offset_fork_args_flags]
	_ = [1]struct{}{}[unsafe.Offsetof(forkArgs{}.files)-C.offset_fork_args_files]
	_ = [1]struct{}{}[unsafe.Offsetof(forkArgs{}.drop)-C.offset_fork_args_drop]
	_ = [1]struct{}{}[unsafe.Offsetof(forkArgs{}.memoryLimit)-C.offset_fork_args_memory_limit]
	_ = [1]struct{}{}[unsafe.Offsetof(forkArgs{}.maxOut)-C.offset_fork_args_max_out]
	_ = [1]struct{}{}[unsafe.Offsetof(forkArgs{}.owner)-C.offset_fork_args_owner]
	_ = [1]struct{}{}[unsafe.Offsetof(forkArgs{}.limits)-C.offset_fork_args_limits]
	_ = [1]struct{}{}[unsafe.Offsetof(forkArgs{}.control)-C.offset_fork_args_control]
	_ = [1]struct{}{}[unsafe.Offsetof(forkArgs{}.forkTime)-C.offset_fork_args_fork_time]
)

// The constants have the same values.
var (
	_ = [1]struct{}{}[waitsBySocket-C.SHM_WAITS_BY_SOCKET]
	_ = [1]struct{}{}[requestDo-C.SHM_REQUEST_DO]
	_ = [1]struct{}{}[crashClaimed-C.SHM_CRASH_CLAIMED]
	_ = [1]struct{}{}[crashRecorded-C.SHM_CRASH_RECORDED]
	_ = [1]struct{}{}[crashLocated-C.SHM_CRASH_LOCATED]
	_ = [1]struct{}{}[setUpDone-C.SHM_SET_UP_DONE]
	_ = [1]struct{}{}[setUpFailed-C.SHM_SET_UP_FAILED]
	_ = [1]struct{}{}[len(setUpCalls)-C.SHM_CALLS]
	_ = [1]struct{}{}[setUpMemoryLimit-C.SHM_CALL_MEMORY_LIMIT]
	_ = [1]struct{}{}[setUpMmap-C.SHM_CALL_MMAP]
	_ = [1]struct{}{}[setUpSeccomp-C.SHM_CALL_SECCOMP]
	_ = [1]struct{}{}[filterHolds-C.SHM_SANDBOXED_FILTER]
	_ = [1]struct{}{}[landlockHolds-C.SHM_SANDBOXED_LANDLOCK]
	_ = [1]struct{}{}[seccomp.MaxInstructions-C.SHM_MAX_FILTER]
	_ = [1]struct{}{}[maxSelf-C.SHM_MAX_SELF]
	_ = [1]struct{}{}[maxFrames-C.SHM_MAX_FRAMES]
	_ = [1]struct{}{}[maxReadOnly-C.SHM_MAX_READ_ONLY]

	_ = [1]struct{}{}[killWithParent-C.SHM_KILL_WITH_PARENT]
	_ = [1]struct{}{}[reportCrash-C.SHM_REPORT_CRASH]
	_ = [1]struct{}{}[closeFDs-C.SHM_CLOSE_FDS]
	_ = [1]struct{}{}[awaitSetUp-C.SHM_AWAIT_SET_UP]
	_ = [1]struct{}{}[processGroup-C.SHM_PROCESS_GROUP]
	_ = [1]struct{}{}[serve-C.SHM_SERVE]
	_ = [1]struct{}{}[oomFirst-C.SHM_OOM_FIRST]
	_ = [1]struct{}{}[serveForks-C.SHM_FORK_SERVER]
	_ = [1]struct{}{}[awaitFunction-C.SHM_AWAIT_FUNCTION]
	_ = [1]struct{}{}[setUpInit-C.SHM_CALL_INIT]
	_ = [1]struct{}{}[setUpCloneParent-C.SHM_CALL_CLONE_PARENT]
	_ = [1]struct{}{}[setUpTidAddress-C.SHM_CALL_TID_ADDRESS]
	_ = [1]struct{}{}[setUpRobustList-C.SHM_CALL_ROBUST_LIST]
	_ = [1]struct{}{}[setUpRobustMutex-C.SHM_CALL_ROBUST_MUTEX]
	_ = [1]struct{}{}[setUpThreads-C.SHM_CALL_THREADS]
	_ = [1]struct{}{}[unsafe.Offsetof(objectEntry{}.end)-C.offset_object_end]
	_ = [1]struct{}{}[unsafe.Offsetof(objectEntry{}.fd)-C.offset_object_fd]
	_ = [1]struct{}{}[unsafe.Offsetof(objectEntry{}.ino)-C.offset_object_ino]
	_ = [1]struct{}{}[unsafe.Offsetof(objectTable{}.entries)-C.offset_objects_object]
)
