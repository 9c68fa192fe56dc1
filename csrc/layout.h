/*
 * The offsets of members of the structs that Go and C share, for shm_cgo.go, which compares them
 * with those in Go: cgo knows constants of C, and not offsetof.
 */
#ifndef SHM_LAYOUT_H
#define SHM_LAYOUT_H

#include <stddef.h>

#include "child.h"
#include "pool.h"
#include "shm_child.h"

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

#endif
