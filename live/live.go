package live

import (
	"os"
	"syscall"
	"time"

	"forkshm.example/shm/internal/hook"
)

// Fork is fork(2), and returns twice: the child's process id in the parent, and
// 0 in the child. The parent must reap the child, and the child must exit by
// os.Exit. A child that returns from the calling function runs code that is
// meant for the parent, on a copy of its memory. [Go] does both. Fork fails
// with [ErrNotPatched], [ErrTracing], [ErrSynctest], or an [os.SyscallError].
// See fork(2).
func Fork() (pid int, err error) {
	pid, _, err = fork(nil, 0)
	return pid, err
}

// fork is Fork, and returns also how long fork(2) took. The child lets go of
// the descriptors that d names before functions of AtFork open any. d may be
// nil. owner is the child's owner slot: see [hook.SetOwner].
func fork(d *dropping, owner uint32) (pid int, held time.Duration, err error) {
	if err := canFork(); err != nil {
		return 0, 0, err
	}
	warm()
	if checking {
		printCheck(os.Stderr)
	}
	fns := atFork.Load()
	fns.before()
	for _, mu := range hook.Locks {
		mu.Lock()
	}
	// As in package syscall. In the child the patch opens it.
	syscall.ForkLock.Lock()
	c := &call{limit: watchdog.Load()}
	runtimeFork(forkInC, c)
	if c.errno == 0 && c.pid == 0 {
		startChild(d, owner)
		fns.child()
		c.begun()
		return 0, 0, nil
	}
	syscall.ForkLock.Unlock()
	for _, mu := range hook.Locks {
		mu.Unlock()
	}
	fns.parent()
	if c.errno != 0 {
		return 0, 0, forkError(c.errno)
	}
	return int(c.pid), time.Duration(c.held), nil
}

// startChild renews in the child what no child may share with its parent.
func startChild(d *dropping, owner uint32) {
	child.Store(true)
	for _, mu := range hook.Locks {
		ResetLock(mu)
	}
	hook.SetOwner(owner)
	hook.Forked()
	runtimeHelp(hook.Threads)
	renewStandardFiles()
	if d != nil {
		d.inChild()
	}
}

func forkError(errno int32) error {
	switch errno {
	case tracing:
		return ErrTracing
	case synctest:
		return ErrSynctest
	}
	return os.NewSyscallError("fork", syscall.Errno(errno))
}

// warm has packages os and time find out now what they find out at their first
// use. If another goroutine were just finding that out, the lock that it holds
// would stay held in the child.
func warm() {
	if p, err := os.FindProcess(os.Getpid()); err == nil { // do pidfds work?
		_ = p.Release()
	}
	_, _ = time.Now().Zone() // the time zone
}
