//go:build linux && cgo

package shm

/*
#include "csrc/child.h"
#include "csrc/pool.h"
#include "csrc/shm_child.h"

enum {
	offset_reply = offsetof(struct shm_control, reply),
	offset_crash = offsetof(struct shm_control, crash),
	offset_request_waits = offsetof(struct shm_request, waits),
	offset_request_function = offsetof(struct shm_request, function),
	offset_request_length = offsetof(struct shm_request, length),
	offset_job_length = offsetof(struct shm_job, length),
	offset_reply_seq = offsetof(struct shm_reply, seq),
	offset_reply_out_used = offsetof(struct shm_reply, out_used),
	offset_reply_result = offsetof(struct shm_reply, result),
	offset_crash_code = offsetof(struct shm_crash, code),
	offset_crash_addr = offsetof(struct shm_crash, addr),
	offset_crash_pc = offsetof(struct shm_crash, pc),
	offset_crash_base = offsetof(struct shm_crash, base),
	offset_crash_syscall = offsetof(struct shm_crash, syscall),
	offset_crash_frames = offsetof(struct shm_crash, frames),
	offset_crash_frame = offsetof(struct shm_crash, frame),
	offset_crash_module = offsetof(struct shm_crash, module),
	offset_set_up_call = offsetof(struct shm_set_up, call),
	offset_set_up_err = offsetof(struct shm_set_up, err),
	offset_set_up_sandboxed = offsetof(struct shm_set_up, sandboxed),
	offset_sandbox_self = offsetof(struct shm_sandbox, self),
	offset_sandbox_read_only = offsetof(struct shm_sandbox, read_only),
	offset_sandbox_filter = offsetof(struct shm_sandbox, filter),
	offset_fork_args_flags = offsetof(struct shm_fork_args, flags),
	offset_fork_args_files = offsetof(struct shm_fork_args, files),
	offset_fork_args_drop = offsetof(struct shm_fork_args, drop),
	offset_fork_args_memory_limit = offsetof(struct shm_fork_args, memory_limit),
	offset_fork_args_max_out = offsetof(struct shm_fork_args, max_out),
	offset_fork_args_owner = offsetof(struct shm_fork_args, owner),
	offset_fork_args_limits = offsetof(struct shm_fork_args, limits),
	offset_fork_args_control = offsetof(struct shm_fork_args, control),
	offset_fork_args_fork_time = offsetof(struct shm_fork_args, fork_time),
	offset_object_end = offsetof(struct shm_object, end),
	offset_object_fd = offsetof(struct shm_object, fd),
	offset_object_ino = offsetof(struct shm_object, ino),
	offset_objects_object = offsetof(struct shm_objects, object),
};
*/
import "C"

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/seccomp"
)

// Each line checks that two numbers are equal: another index than 0 does not
// compile.
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
