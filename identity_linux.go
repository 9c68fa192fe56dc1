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

// tokenWord holds this process's token. The kernel, or nobody, makes it 0 in a process that was forked.
var tokenWord = (*atomic.Uint64)(unsafe.Pointer(C.shm_process_token_word()))

func init() { hook.ProcessToken = processToken }

// processToken returns a number, never 0, that tells this process from all those that it was forked from. So a
// copy of this process's memory, as a live fork's child has one, knows that it is a copy. A process id would
// not do: in two pid namespaces two processes can have the same one. See MADV_WIPEONFORK in madvise(2).
func processToken() uint64 {
	if token := tokenWord.Load(); token != 0 {
		return token
	}
	return uint64(C.shm_process_token()) // in a copy, or where the kernel wipes no page
}
