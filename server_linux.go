package shm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
	"forkshm.example/shm/internal/hook"
)

// server is a process that forks: csrc/fork_server.h says how this process and the server talk. A
// server that was taken over can write to its control page and send anything. So what this process
// relies on is in its own memory, and the kernel says who sent an answer.
type server struct {
	*Process
	control *control
	socket  *os.File // this process's end of the server's socket
	conn    syscall.RawConn

	addr   unsafe.Pointer // the mapping, as it was when the server was forked
	length int
	box    sandboxOf // that its children enter

	seq     uint32      // the number of the last request
	next    *forkArgs   // the request that has not been answered yet, or nil
	files   *childFiles // of that request
	askedAt time.Time   // the time of that request
	broken  bool        // the server is not used again
}

const (
	// answerTimeout is how long a fork waits for the server's answer on its thread. After that it
	// waits in the poller, which holds none.
	answerTimeout = time.Millisecond

	// hangTimeout is how long the server may take for an answer. Then it is taken for hung, as by
	// SIGSTOP.
	hangTimeout = 10 * time.Second
)

// errServerEnded is for a request to a server that ended before it made a child. Another server can
// have the request.
var errServerEnded = errors.New("the fork server ended")

// errStillborn is for a child that was killed before it said who it is.
var errStillborn = errors.New("a child was killed before it began")

// startServer forks a server of the mapping. If ctx ends before Init returns, the server is killed.
// The error is errNoServer if this system can have none.
func startServer(ctx context.Context, m *Mapping, cfg *ForkServerConfig) (*server, error) {
	ends, err := highfd.OpenPair(func() ([2]int, error) {
		return unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	})
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(ends[1]) // only the server keeps this end open
	v := new(server)
	defer func() { v.box.close() }() // the server keeps its descriptors open
	if err := v.openSocket(ends[0]); err != nil {
		_ = unix.Close(ends[0])
		return nil, err
	}
	if err := v.start(ctx, m, cfg, ends[1]); err != nil {
		_ = v.socket.Close()
		return nil, err
	}
	return v, nil
}

// openSocket makes fd this process's end of the server's socket.
func (v *server) openSocket(fd int) (err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	v.socket = os.NewFile(uintptr(fd), "fork server") // blocking, so that the poller does not have it
	v.conn, err = v.socket.SyscallConn()              // an error is for a nil file only
	return err
}

// start forks the server. fd is its end of the socket.
func (v *server) start(ctx context.Context, m *Mapping, cfg *ForkServerConfig, fd int) (err error) {
	forkConfig := ForkConfig{
		KillWithParent: true, Lean: true,
		CloseFDs: true, KeepFDs: append(slices.Clone(cfg.Fork.KeepFDs), fd),
		NoOOMScore: cfg.Fork.NoOOMScore, NoCrashReport: cfg.Fork.NoCrashReport,
		Stdin: cfg.Fork.Stdin, Dir: cfg.Fork.Dir, // its children inherit them
	}
	if isFile(cfg.Fork.Stdout) {
		forkConfig.Stdout = cfg.Fork.Stdout
	}
	if isFile(cfg.Fork.Stderr) {
		forkConfig.Stderr = cfg.Fork.Stderr
	}
	args := forkArgs{init: cfg.Init, flags: serveForks, wakeFD: int32(fd)}
	v.Process, err = args.start(ctx, m, &forkConfig, cfg.Fork.Sandbox, &v.box)
	if err != nil {
		return err
	}
	v.addr, v.length = args.addr, int(args.length)
	if !v.handle.isReaped() {
		v.control = v.Process.control
		v.control.retain()
	}
	ended := v.handle.hasEnded()
	v.reaped() // reaps it when it ends
	if ended { // in Init
		_ = v.Wait(ctx)
		v.control.release()
		return fmt.Errorf("%w: %w", errServerEnded, v.howEnded())
	}
	return nil
}

// howEnded says how the server ended. The server must be reaped.
func (v *server) howEnded() error {
	select {
	case <-v.reaped():
	default:
		return fmt.Errorf("process %d was sent SIGKILL but has not ended yet", v.pid)
	}
	if v.err == nil {
		return &ExitError{Pid: v.pid} // it called exit(0)
	}
	return v.err
}

// isFile reports whether a server's children inherit a writer from the server. To another writer
// each child writes by a pipe of its own.
func isFile(w io.Writer) bool {
	_, is := w.(*os.File)
	return is
}

// ask sends the server a request for a child as args and cfg say. There must be no request that has
// not been answered.
func (v *server) ask(cfg *ForkConfig, args forkArgs) error {
	if _, err := cfg.addTo(&args); err != nil {
		return err
	}
	args.flags &^= closeFDs | oomFirst // the server has done that
	files := new(childFiles)
	if !isFile(cfg.Stdout) {
		files.stdout = cfg.Stdout
	}
	if !isFile(cfg.Stderr) {
		files.stderr = cfg.Stderr
	}
	if cfg.Sandbox == nil && !args.canFail() && !files.areUsed() {
		args.flags &^= awaitSetUp
	}
	args.owner = hook.NewOwner()
	v.seq++
	var err error
	controlErr := v.conn.Control(func(fd uintptr) {
		syscall.ForkLock.RLock() // a fork would inherit descriptors that are the child's alone
		defer syscall.ForkLock.RUnlock()
		defer files.forked()
		if err = files.addTo(&args); err == nil {
			args.drop = [2]int32{} // the child does not inherit this process's ends of the pipes
			err = args.askServer(fd, v.seq)
		}
	})
	if err = errors.Join(controlErr, err); err == nil {
		v.next, v.files, v.askedAt = &args, files, time.Now()
		return nil
	}
	files.abandon()
	hook.OwnerEnded(args.owner, err)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EAGAIN) {
		v.broken = true // it has ended, or does not read
		return errServerEnded
	}
	return err
}

// take waits for the answer to the request, and returns the child once it is set up. If ctx ends
// before the answer, the request stays. If ctx ends after it, the child is killed.
func (v *server) take(ctx context.Context) (p *Process, err error) {
	pid, err := v.await(ctx)
	if err != nil && err == ctx.Err() {
		return nil, err
	}
	defer func() { count(p, err) }()
	args, files := v.next, v.files
	v.next, v.files = nil, nil
	if err == nil {
		p, err = adopt(pid, time.Since(v.askedAt), args.owner)
	} else {
		hook.OwnerEnded(args.owner, err)
	}
	if err == nil {
		p.outputs = files.copyOutputs()
	} else {
		files.abandon()
	}
	return args.setUp(ctx, p, err, &v.box)
}

// await waits for the answer, and returns the child's process id. Most answers are there, or come
// soon. So the poller, which wakes a thread for each message, has the socket only while await waits.
func (v *server) await(ctx context.Context) (pid int, err error) {
	pid, err = v.look(ctx, answerTimeout)
	if err != unix.EAGAIN {
		return pid, err
	}
	polled, conn, err := v.openPolled()
	if err != nil { // no descriptor is left
		return v.awaitOnThread(ctx)
	}
	defer polled.Close()
	wakeUp := func() { _ = polled.SetReadDeadline(time.Unix(1, 0)) }
	defer context.AfterFunc(ctx, wakeUp)()
	for interval := minCheckInterval; ; interval = min(2*interval, maxCheckInterval) {
		// If wakeUp is called before this line, look sees the reason. If it is called after this
		// line, it ends the read.
		_ = polled.SetReadDeadline(time.Now().Add(interval))
		pid, err = v.look(ctx, 0)
		if err != unix.EAGAIN {
			return pid, err
		}
		_ = conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
	}
}

// awaitOnThread is await without the poller. It does not give up, as nobody would know the child then.
func (v *server) awaitOnThread(ctx context.Context) (pid int, err error) {
	for err = unix.EAGAIN; err == unix.EAGAIN; {
		pid, err = v.look(ctx, setUpInterval)
	}
	return pid, err
}

// look waits for the answer as long as timeout. The error is EAGAIN if await is to wait on.
func (v *server) look(ctx context.Context, timeout time.Duration) (pid int, err error) {
	stillborn := v.stillborn() // before the look for the answer, which comes before its end
	pid, err = v.answer(timeout)
	switch {
	case err == nil:
		return pid, nil
	case err != unix.EAGAIN:
		return 0, v.failed(err)
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case stillborn != 0:
		v.reapStillborn()
		return 0, errStillborn
	case time.Since(v.askedAt) > hangTimeout:
		return 0, v.failed(err)
	}
	return 0, unix.EAGAIN
}

// openPolled returns another descriptor of the socket, which the poller has.
func (v *server) openPolled() (polled *os.File, conn syscall.RawConn, err error) {
	fd := -1
	controlErr := v.conn.Control(func(socket uintptr) {
		fd, err = unix.FcntlInt(socket, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err = errors.Join(controlErr, os.NewSyscallError("fcntl", err)); err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	polled = os.NewFile(uintptr(fd), "fork server")
	conn, err = polled.SyscallConn() // an error is for a nil file only
	return polled, conn, err
}

// failed returns the error of a request. err is the answer, or EAGAIN if there was none.
func (v *server) failed(err error) error {
	switch err {
	case unix.EPIPE:
		err = errServerEnded
	case unix.EAGAIN:
		err = fmt.Errorf("%w: it did not answer for %v, and was killed",
			errServerEnded, hangTimeout)
	case unix.EPROTO:
		err = fmt.Errorf("%w: it did not answer the question, and was killed", errServerEnded)
	default: // it could not fork, and says so
		return err
	}
	v.broken = true
	v.end()
	return err
}

// answer waits for the answer as long as timeout.
func (v *server) answer(timeout time.Duration) (pid int, err error) {
	controlErr := v.conn.Control(func(fd uintptr) {
		pid, err = serverAnswer(fd, v.seq, v.pid, timeout)
	})
	if controlErr != nil {
		return 0, controlErr
	}
	if err == nil && !claim(pid) {
		err = unix.EPROTO
	}
	return pid, err
}

// claim adds the sender of an answer to this package's children, and reports whether it can be a
// server's child. The sender may have ended, and another process may have its process id now. The
// forker has forked the servers, and so their children are its own, too. The other children that the
// forker has are known: see forkOf.
func claim(pid int) bool {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	return isForkersChild(pid) && children.add(pid)
}

// end kills the server. If it has made a child for the last request, the child is killed and
// reaped.
func (v *server) end() {
	_ = v.Kill()
	for end := time.Now().Add(hook.KillTimeout); time.Now().Before(end); time.Sleep(time.Millisecond) {
		switch pid, err := v.answer(0); err {
		case nil:
			killUnwatched(pid)
			return
		case unix.EPIPE: // nobody has the socket any more
			v.reapStillborn()
			return
		}
	}
}

// stop ends the server and the child that it has made in advance, and frees this process's part of
// them.
func (v *server) stop() error {
	_ = v.Kill()
	if v.next != nil {
		v.end()
		newControl(v.next).release()
		hook.OwnerEnded(v.next.owner, errServerEnded)
		v.files.abandon()
		v.next, v.files = nil, nil
	}
	limit, cancel := context.WithTimeout(context.Background(), hook.KillTimeout)
	defer cancel()
	err := v.Wait(limit)
	_ = v.socket.Close()
	v.control.release()
	if err != nil && err == limit.Err() {
		return fmt.Errorf("fork server %d was sent SIGKILL but has not ended yet", v.pid)
	}
	return nil
}

// stillborn returns the child that the server says it has made for the request, if that child has
// ended.
func (v *server) stillborn() (pid int) {
	if !v.hasMade() {
		return 0
	}
	pid = int(atomic.LoadInt32(&v.control.page.reply.result))
	if pid <= 1 || children.has(pid) {
		return 0
	}
	wpid, _, _ := childID{unix.P_PID, pid}.wait(unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if wpid != pid {
		return 0
	}
	return pid
}

// hasMade reports whether the server says that it has made a child for the request.
func (v *server) hasMade() bool { return atomic.LoadUint32(&v.control.page.reply.seq) == v.seq }

// reapStillborn reaps a child that was killed before it said who it is. The server can lie about
// its process id. So the forker reaps it: the forker can reap only what it has forked, and what
// these processes have cloned as its children.
func (v *server) reapStillborn() {
	for range 100 { // its end of the socket is closed shortly before it has ended
		if v.tryToReapStillborn() {
			return
		}
		if !v.hasMade() {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (v *server) tryToReapStillborn() bool {
	syscall.ForkLock.Lock() // another child must not get the process id meanwhile
	defer syscall.ForkLock.Unlock()
	pid := v.stillborn()
	if pid != 0 {
		reapByForker(pid)
	}
	return pid != 0
}
