//go:build !linux

package live

import (
	"time"

	"forkshm.example/shm"
)

// What descriptors_linux.go and sign_linux.go declare, for programs that are
// also built elsewhere. There nothing forks.

type dropping struct{ keep []int }

func newDropping(...int) (*dropping, error) { return nil, errNoCgo }
func (d *dropping) close()                  {}
func (d *dropping) inChild()                {}
func (d *dropping) wait(*shm.Process)       {}

type sign struct{ fd int }

func newSign() (*sign, error)                        { return nil, errNoCgo }
func (s *sign) close()                               {}
func (s *sign) give()                                {}
func (s *sign) orEndOf(int, time.Time) (bool, error) { return false, errNoCgo }
