package live

import (
	"context"
	"io"
	"os"
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
// while this process goes on: the file holds the memory as it was at the fork.
// It returns as soon as the child runs and has let go of what it inherits; the
// [Saving] tells of its end. For Redis users: BGSAVE.
//
// The locks are taken, in order, before the fork, and released in this process
// right after it: what they guard is whole in the child. Readers' locks do, as
// of sync.RWMutex's RLocker. Snapshot takes them once a garbage collection that
// is under way has ended, which takes seconds with a large heap; a caller that
// holds locks of its own instead has others wait for that. Until then no new
// one starts.
//
// encode runs in the child, where the rules of this package hold:
//   - the locks stay held there. It needs none, as nothing else runs, and must not take them, which would hang,
//     nor release them, which would let a goroutine that waits for one go on, in the child.
//   - it writes to w, a [bufio.Writer]: not to what else this process has open. The child lets go of sockets, pipes and
//     the like, and can read files, as with [Config].DropFDs. So what this process closes after Snapshot is closed.
//   - the garbage collector, which would copy and cost, does not run until encode has allocated a quarter of what
//     the heap holds, at least 64 MiB. It may change that by [debug.SetGCPercent] and [debug.SetMemoryLimit].
//   - SIGINT, SIGHUP and SIGXFSZ are ignored. The child ends when this process does, however that ends.
//
// The new file is written without a name (O_TMPFILE), fsynced, and renamed into
// place, so that at any moment path is the former file or the new one, whole.
// An encode that fails, panics or exits, a full disk, the child's death or this
// process's: the former file stays, and no other is left. Only where both
// processes are killed between two certain system calls, or at any time on a
// file system without O_TMPFILE, does .NAME.live-snapshot stay beside it, which
// the next snapshot to path removes.
//
// The folder must exist and allow to be read and written; an error of that kind
// is told at once, as an [*os.PathError]. A path that is a symbolic link has
// the file replaced that it points to. The new file has the former one's mode
// (of permissions), and its owner and group if this process may give them;
// other links to the former file keep the former content. Two processes may
// write to one path: the last to end wins. A second snapshot of this process is
// refused with [ErrSaving] meanwhile.
//
// It fails with what [Fork] fails with. See fork(2), open(2), linkat(2),
// rename(2).
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
		func(b *board, parent int) error { return t.replace(parent, b, encode) })
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

// SnapshotTo is [Snapshot] to a writer of this process: what encode writes
// comes to w through a pipe, as the child writes it, and waits where w does. If
// w fails the child is killed, and the error is w's. A snapshot that fails may
// have written a part to w. The [Saving] ends when w's last Write has returned.
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
		func(b *board, parent int) error { return p.fill(parent, b, encode) })
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

// Saving is a snapshot that is under way, or has ended. It needs no Wait: the
// child is reaped, and everything given back, when it ends.
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

// newSaving forks a child that runs work, and needs the descriptor fd for it.
func newSaving(path string, locks []sync.Locker, fd int,
	work func(b *board, parent int) error) (*Saving, error) {
	d, err := newDropping(fd)
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
		parent := os.Getpid()
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

// watch sees the child to its end. Then ended ends what the parent has of it,
// and says what failed there.
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
// file. It returns nil if the file is in place and on the disk, or w has it
// all; a [*SnapshotError] if not; and the context's error if the context ends
// first: the snapshot goes on then. Any number of goroutines may wait, any
// number of times. A child killed at its very end may have put the new file
// into place, whole, and yet be an error.
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
// the pipe; those that w buffers are not among them.
func (s *Saving) Progress() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.board != nil {
		return s.board.written.Load()
	}
	return s.written
}

// Copied returns how many bytes of memory this snapshot costs, because one of
// the processes wrote to what they shared, and with what the child allocated:
// the greatest known. While the child runs it asks the kernel (see
// [shm.Process.Memory]), which takes it milliseconds for each GiB; the child
// does so itself when all is written. One that was killed leaves what was asked
// last, or 0.
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

// Pause returns how long the program stood still for fork(2): Process.ForkTime.
// The locks are held some tenths of a millisecond longer.
func (s *Saving) Pause() time.Duration { return s.process.ForkTime() }

// Kill ends the snapshot by SIGKILL. Wait tells when it is gone. Once the child
// is reaped it returns [os.ErrProcessDone].
func (s *Saving) Kill() error { return s.process.Kill() }

// Process returns the child, for its pid, Usage and the like.
func (s *Saving) Process() *shm.Process { return s.process }

// collecting is what snapshots keep of a process: a forked child begins anew,
// as in the child the lock may be held for ever.
type collecting struct {
	process uint64 // by its token
	sync.Mutex
}

var collector atomic.Pointer[collecting]

// withCollectorOff waits until no garbage collection is under way, and calls
// fork before another can start: fork(2) waits for it too, but with locks held.
// limit is the memory limit for the child. What is there to be read is read
// here, as the runtime's lock on its metrics may be another goroutine's in the
// child.
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
