//go:build !linux

package live

import (
	"os"
	"syscall"
)

// What fd_linux.go declares, for programs that are also built elsewhere.

func descriptor(syscall.Conn) (fd int, ok bool) { return 0, false }
func duplicate(*os.File) (*os.File, error)      { return nil, errNoCgo }
func isOpen(int) bool                           { return false }
