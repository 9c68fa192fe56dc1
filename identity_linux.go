//go:build cgo

package shm

/*
#include "csrc/identity.h"

#cgo noescape shm_process_token
#cgo nocallback shm_process_token
*/
import "C"

import (
	"sync/atomic"
	"unsafe"

	"forkshm.example/shm/internal/hook"
)

// tokenWord holds this process's token. The kernel sets it to 0 in a forked
// process, if it supports MADV_WIPEONFORK. Otherwise the word is always 0.
var tokenWord = (*atomic.Uint64)(unsafe.Pointer(C.shm_process_token_word()))

func init() { hook.ProcessToken = processToken }

// processToken returns a number, never 0, that differs from the numbers of all
// processes that this process was forked from. A live fork's child has a copy
// of its parent's memory: by the token it knows that the memory is a copy. A
// process id is not enough: two processes in two pid namespaces can have the
// same one. See MADV_WIPEONFORK in madvise(2).
func processToken() uint64 {
	if token := tokenWord.Load(); token != 0 {
		return token
	}
	return uint64(C.shm_process_token()) // in a forked process, or without MADV_WIPEONFORK
}
