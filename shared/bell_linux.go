//go:build cgo

package shared

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/hook"
)

// The bell is an eventfd that all processes of the program have. Whoever changes a word for which a
// goroutine waits writes to the eventfd. One goroutine of each process waits for the eventfd in the
// poller. It then looks which words have changed, and wakes the goroutines that wait for them.
//
// Nobody reads the eventfd's counter. epoll(7) tells each write to all processes that poll the eventfd
// (EPOLLET), and a process that read the counter would take the news from the others.

// lookAgain is how long a goroutine waits before it looks for itself whether a word has changed.
const lookAgain = time.Second

// bells is the goroutines of this process that wait for the bell.
var bells struct {
	sync.Mutex
	token   uint64 // of the process whose goroutine waits for the eventfd
	waiters map[*bellWaiter]struct{}
}

func init() {
	hook.Locks = append(hook.Locks, &bells.Mutex)
	hook.BellFD = bellFD
}

// bellWaiter is one goroutine that waits while *word is value.
type bellWaiter struct {
	word  *uint32
	value uint32
	woken chan struct{} // has room for one
}

// bellWait waits while *word is value, until ctx ends, and for lookAgain at most.
func bellWait(ctx context.Context, word *uint32, value uint32) error {
	w := &bellWaiter{word, value, make(chan struct{}, 1)}
	if err := w.enter(); err != nil {
		return err
	}
	defer w.leave()
	if atomic.LoadUint32(word) != value {
		return nil
	}
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	select {
	case <-w.woken:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *bellWaiter) enter() error {
	bells.Lock()
	defer bells.Unlock()
	if token := hook.ProcessToken(); bells.token != token {
		if err := listen(); err != nil {
			return err
		}
		bells.token = token
		bells.waiters = map[*bellWaiter]struct{}{} // a live fork's child has copies of its parent's
	}
	bells.waiters[w] = struct{}{}
	return nil
}

func (w *bellWaiter) leave() {
	bells.Lock()
	defer bells.Unlock()
	delete(bells.waiters, w)
}

// listen starts the goroutine that waits for the eventfd. The poller of a live fork's child does not
// know the descriptors that the child has inherited, but it can be told of a duplicate.
func listen() error {
	fd, err := unix.FcntlInt(uintptr(bellFD), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	bell := os.NewFile(uintptr(fd), "eventfd")
	conn, err := bell.SyscallConn()
	if err != nil {
		return errors.Join(err, bell.Close())
	}
	go func() {
		_ = conn.Read(func(uintptr) bool {
			wakeChanged()
			return false // wait for the next write
		})
	}()
	return nil
}

// wakeChanged wakes the goroutines whose words have changed.
func wakeChanged() {
	bells.Lock()
	defer bells.Unlock()
	for w := range bells.waiters {
		if atomic.LoadUint32(w.word) != w.value {
			select {
			case w.woken <- struct{}{}:
			default:
			}
		}
	}
}

// ring wakes the goroutines of all processes that wait for a word that has changed.
func ring() {
	one := binary.NativeEndian.AppendUint64(nil, 1)
	if _, err := unix.Write(bellFD, one); err == unix.EAGAIN { // a hostile process has filled the counter
		_, _ = unix.Read(bellFD, make([]byte, 8))
		_, _ = unix.Write(bellFD, one)
	}
}
