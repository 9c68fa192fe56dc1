//go:build !linux

package live

import "io"

// What snapshot_linux.go declares, for programs that are also built elsewhere. There nothing forks.

type target struct{ dir int }

func openTarget(string) (*target, error)                            { return nil, errNoCgo }
func (t *target) replace(self, *board, func(io.Writer) error) error { return errNoCgo }
func (t *target) clean()                                            {}
func (t *target) close()                                            {}

type pipe struct{ w int }

func newPipe() (*pipe, error)                                  { return nil, errNoCgo }
func (p *pipe) close()                                         {}
func (p *pipe) fill(self, *board, func(io.Writer) error) error { return errNoCgo }
func (p *pipe) reader() *pipeReader                            { return nil }

type self struct{ pidfd int }

func openSelf() (self, error)             { return self{}, errNoCgo }
func (self) close()                       {}
func whileParentLives(self, func()) error { return errNoCgo }

type pipeReader struct{ io.ReadCloser }

func (r *pipeReader) writerIsGone() {}
