package live

import (
	"context"
	"io"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"
)

// Snapshot forks a child that replaces the file at path by what encode writes,
// while this process goes on. The file then holds the memory as it was at the
// fork. Snapshot returns as soon as the child runs and has let go of what it
// inherits. The [Saving] tells when and how the snapshot ends. Redis calls this
// BGSAVE.
//
// Snapshot takes the locks, in order, before the fork, and releases them in
// this process right after it. So what the locks guard is whole in the child.
// Locks for reading suffice, such as the RLocker of a sync.RWMutex. If a
// garbage collection is under way, Snapshot waits for its end before it takes
// the locks: with a large heap that takes seconds. No new collection starts
// until the fork is done. If the caller holds other locks during the call,
// whoever wants these locks waits for all of that.
//
// encode runs in the child, where the rules of this package hold:
//   - The locks stay held in the child. encode needs none, as nothing else
//     runs. encode must not take them, because it would wait for ever. It must
//     not release them, because a goroutine that waits for one would go on, in
//     the child.
//   - encode writes to w, a [bufio.Writer], and must not write to anything else
//     that this process has open. The child lets go of sockets, pipes and the
//     like, as with [Config].DropFDs, and can read files. So what this process
//     closes after Snapshot is closed.
//   - The garbage collector would copy memory. It does not run until encode has
//     allocated a quarter of what the heap holds, and at least 64 MiB. encode
//     may change that by [debug.SetGCPercent] and [debug.SetMemoryLimit].
//   - SIGINT, SIGHUP and SIGXFSZ are ignored.
//   - The child ends when this process ends, however this process ends.
//
// The child writes a new file that has no name (O_TMPFILE), flushes the file to
// the disk, and renames it to path. At any moment path is the former file or
// the new one, whole. The former file stays, and no other file is left, if
// encode fails, panics or exits, if the disk is full, and if the child or this
// process dies. There are two exceptions: both processes are killed between two
// certain system calls, or at any time on a file system without O_TMPFILE. Then
// .NAME.live-snapshot is left beside the former file, and the next snapshot to
// path removes it.
//
// The folder must exist, and this process must be allowed to read and write it.
// Otherwise Snapshot returns an [*os.PathError]. If path is a symbolic link,
// the file that the link points to is replaced. The new file has the former
// one's permissions, and its owner and group if this process may set them.
// Other links to the former file keep the former content. Two processes may
// write to one path: the last to end wins. In one process, a second snapshot to
// a path is refused with [ErrSaving] while the first is under way.
//
// Snapshot also fails with the errors of [Fork]. See fork(2), open(2),
// linkat(2), rename(2).
func Snapshot(path string, encode func(w io.Writer) error, locks ...sync.Locker) (*Saving, error) {
	if encode == nil {
		return nil, errNilFunc
	}
	if err := canFork(); err != nil {
		return nil, err
	}
	t, err := openTarget(path)
	if err != nil {
		return nil, err
	}
	s, err := newSaving(path, locks, t.dir,
		func(b *board, parent self) error { return t.replace(parent, b, encode) })
	if err != nil {
		t.close()
		return nil, err
	}
	go s.watch(func() error {
		if s.board.done.Load() == 0 {
			t.clean()
		}
		t.close()
		return nil
	})
	return s, nil
}

// SnapshotTo is [Snapshot] to a writer of this process. What encode writes
// comes to w through a pipe while the child writes it. If w waits, encode
// waits. If w fails, the child is killed, and the error is w's. A snapshot that
// fails may have written a part to w. The [Saving] ends when w's last Write has
// returned.
func SnapshotTo(w io.Writer, encode func(w io.Writer) error,
	locks ...sync.Locker) (*Saving, error) {
	if encode == nil || w == nil {
		return nil, errNilFunc
	}
	if err := canFork(); err != nil {
		return nil, err
	}
	p, err := newPipe()
	if err != nil {
		return nil, err
	}
	s, err := newSaving("", locks, p.w,
		func(b *board, parent self) error { return p.fill(parent, b, encode) })
	if err != nil {
		p.close()
		return nil, err
	}
	from := p.reader()
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, from)
		if err != nil {
			_ = s.process.Kill()
		}
		copied <- err
	}()
	go s.watch(func() error {
		from.writerIsGone()
		err := <-copied
		_ = from.Close()
		return err
	})
	return s, nil
}

// Saving is a snapshot that is under way, or has ended. No call of Wait is
// needed: the child is reaped, and all its resources are freed, when it ends.
type Saving struct {
	path    string
	process *shm.Process

	mu     sync.Mutex
	memory *shm.Mapping // of the board; nil once the child is gone
	board  *board

	written, copied int64 // as last seen

	done chan struct{} // closed once err is set
	err  error
}

// newSaving forks a child that runs work. The child keeps the descriptor fd.
func newSaving(path string, locks []sync.Locker, fd int,
	work func(b *board, parent self) error) (*Saving, error) {
	parent, err := openSelf()
	if err != nil {
		return nil, err
	}
	defer parent.close()
	d, err := newDropping(fd, parent.pidfd)
	if err != nil {
		return nil, err
	}
	defer d.close()
	m, err := shm.Map(shm.Shared, int(unsafe.Sizeof(board{})), nil)
	if err != nil {
		return nil, err
	}
	s := &Saving{path: path, memory: m, done: make(chan struct{})}
	if s.board, err = shm.At[board](m, 0); err == nil {
		err = withCollectorOff(func(limit int64) error {
			for _, l := range locks {
				l.Lock()
			}
			defer func() {
				for i := len(locks) - 1; i >= 0; i-- {
					locks[i].Unlock()
				}
			}()
			s.process, err = goChild(func() int {
				debug.SetGCPercent(-1)
				debug.SetMemoryLimit(limit)
				return s.board.run(func() error { return work(s.board, parent) })
			}, d)
			return err
		})
	}
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	d.wait(s.process)
	return s, nil
}

// watch waits for the child's end and sets the snapshot's error. ended frees
// what the parent has of the snapshot, and returns how the parent's part
// failed.
func (s *Saving) watch(ended func() error) {
	exit := s.process.Wait(context.Background())
	err := ended()
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.board
	switch {
	case err != nil:
		s.err = &SnapshotError{Path: s.path, Err: err}
	case b.done.Load() == 0:
		if exit == nil {
			exit = errExited
		}
		s.err = &SnapshotError{s.path, string(b.message[:b.said.Load()]), exit,
			syscall.Errno(b.errno.Load())}
	}
	s.written, s.copied = b.written.Load(), max(s.copied, b.copied.Load())
	s.board = nil
	_ = s.memory.Close()
	close(s.done)
}

// Wait waits until the snapshot has ended, and nothing of it is left but its
// file. Wait returns nil if the file is in place and on the disk, or if w has
// all bytes, and a [*SnapshotError] otherwise. If the context ends first, Wait
// returns the context's error, and the snapshot goes on. Any number of
// goroutines may wait, any number of times. If the child is killed at its very
// end, the new file may be in place, whole, although Wait returns an error.
func (s *Saving) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return s.err
	default:
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Progress returns how many bytes the child has written so far, to the file or
// to the pipe. Bytes that w buffers do not count.
func (s *Saving) Progress() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.board != nil {
		return s.board.written.Load()
	}
	return s.written
}

// Copied returns how many bytes of memory this snapshot costs: the pages that
// were copied because one of the processes wrote to them, and the memory that
// the child allocated. The result is the greatest number known so far. While
// the child runs, Copied asks the kernel (see [shm.Process.Memory]), which
// takes milliseconds for each GiB. The child asks, too, when all is written. If
// the child was killed, the result is what was last known, or 0.
func (s *Saving) Copied() int64 {
	m, _ := s.process.Memory() // none once it has ended
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copied = max(s.copied, int64(m.PrivateDirty))
	if s.board != nil {
		s.copied = max(s.copied, s.board.copied.Load())
	}
	return s.copied
}

// Pause returns how long the program stood still for fork(2), as
// Process.ForkTime does. The locks are held some tenths of a millisecond
// longer.
func (s *Saving) Pause() time.Duration { return s.process.ForkTime() }

// Kill ends the snapshot by SIGKILL, and does not wait for the end. Once the
// child is reaped, Kill returns [os.ErrProcessDone].
func (s *Saving) Kill() error { return s.process.Kill() }

// Process returns the child, for example for its process id and its Usage.
func (s *Saving) Process() *shm.Process { return s.process }

// collecting is the lock of a process's snapshots. A forked child makes a new
// one, since the inherited lock may be held for ever.
type collecting struct {
	process uint64 // by its token
	sync.Mutex
}

var collector atomic.Pointer[collecting]

// withCollectorOff waits until no garbage collection is under way, and calls
// fork before another can start. fork(2) would wait for the collection too, but
// with the locks held. limit is the memory limit for the child. It is computed
// here, because in the child another goroutine may hold the lock of the
// runtime's metrics.
func withCollectorOff(fork func(limit int64) error) error {
	c := collector.Load()
	for c == nil || c.process != hook.ProcessToken() {
		collector.CompareAndSwap(c, &collecting{process: hook.ProcessToken()})
		c = collector.Load()
	}
	c.Lock()
	defer c.Unlock()

	values := []metrics.Sample{{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(values)
	used := values[0].Value.Uint64() - values[1].Value.Uint64()
	limit := used + max(64<<20, values[2].Value.Uint64()/4)

	runtimeCollectorOff() // waits for the collection
	defer runtimeCollectorOn()
	return fork(int64(limit))
}
