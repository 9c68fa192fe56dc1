//go:build cgo

package shm

import "forkshm.example/shm/internal/hook"

// tokenWord holds this process's token. The kernel sets it to 0 in a forked
// process, if it supports MADV_WIPEONFORK. Otherwise the word is always 0.
var tokenWord = processTokenWord()

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
	return makeProcessToken() // in a forked process, or without MADV_WIPEONFORK
}
