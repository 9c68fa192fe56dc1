package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"forkshm.example/shm/live"
)

// saver saves a store to a file, one snapshot at a time.
type saver struct {
	data *store
	file string

	busy   sync.Mutex                  // held while a save is under way
	saving atomic.Pointer[live.Saving] // the last live fork's
	last   atomic.Int64                // when the last save ended, in seconds since 1970
}

func newSaver(data *store, file string) *saver {
	s := &saver{data: data, file: file}
	s.last.Store(time.Now().Unix())
	return s
}

// saved tells how a save went.
type saved struct {
	Took   time.Duration
	Held   time.Duration // how long writers had to wait
	Pause  time.Duration // how long the whole program stood still meanwhile
	Copied int64         // bytes of memory that were copied for it
}

// method is a way to save the data as they were at one instant. Locking one
// part after another would hold writers up for less time, but the parts would
// be of different instants.
type method struct {
	name, text string
	save       func(*saver) (saved, error)
}

var methods = []method{
	{"fork", "live fork", (*saver).byFork},
	{"lock", "encode under the lock", (*saver).underLock},
	{"exec", "stream to a process, under the lock", (*saver).byProcess},
}

// save saves by the method of that name, and returns how the save went, as
// JSON.
func (s *saver) save(name string) (string, error) {
	for _, m := range methods {
		if m.name != name {
			continue
		}
		if !s.busy.TryLock() {
			return "", live.ErrSaving
		}
		defer s.busy.Unlock()
		how, err := m.save(s)
		if err != nil {
			return "", err
		}
		s.last.Store(time.Now().Unix())
		b, err := json.Marshal(how)
		return string(b), err
	}
	return "", fmt.Errorf("no method %q", name)
}

// info returns lines for INFO.
func (s *saver) info() string {
	busy := 1
	if s.busy.TryLock() {
		s.busy.Unlock()
		busy = 0
	}
	lines := []string{
		"# Persistence",
		fmt.Sprintf("rdb_bgsave_in_progress:%d", busy),
		fmt.Sprintf("rdb_last_save_time:%d", s.last.Load()),
	}
	if saving := s.saving.Load(); saving != nil {
		lines = append(lines,
			fmt.Sprintf("last_fork_usec:%d", saving.Pause().Microseconds()),
			fmt.Sprintf("last_fork_bytes_written:%d", saving.Progress()),
			fmt.Sprintf("last_fork_bytes_copied:%d", saving.Copied()))
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// watch is a lock that measures. Taken before other locks and released after
// them, watch tells for how long the other locks were held.
type watch struct {
	began time.Time
	held  time.Duration
}

func (w *watch) Lock()   { w.began = time.Now() }
func (w *watch) Unlock() { w.held = time.Since(w.began) }

func (s *saver) byFork() (saved, error) {
	began := time.Now()
	var held watch
	encode := func(w io.Writer) error {
		// The child gives way to requests. Each thread has a nice value of its own, and a
		// thread that it makes inherits the value.
		runtime.LockOSThread()
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10)
		return s.data.encode(w)
	}
	saving, err := live.Snapshot(s.file, encode, append([]sync.Locker{&held}, s.data.locks()...)...)
	if err != nil {
		return saved{}, err
	}
	s.saving.Store(saving)
	if err := saving.Wait(context.Background()); err != nil {
		return saved{}, err
	}
	return saved{time.Since(began), held.held, saving.Pause(), saving.Copied()}, nil
}

// whileLocked calls encode with all writers kept out, and returns for how long
// they were.
func (s *saver) whileLocked(encode func() error) (held time.Duration, err error) {
	var w watch
	w.Lock()
	locks := s.data.locks()
	for _, l := range locks {
		l.Lock()
	}
	err = encode()
	for _, l := range locks {
		l.Unlock()
	}
	w.Unlock()
	return w.held, err
}

// underLock encodes with all writers kept out, and lets them go on before the
// file is synced.
func (s *saver) underLock() (r saved, err error) {
	began := time.Now()
	err = replaceFile(s.file, func(w io.Writer) (err error) {
		r.Held, err = s.whileLocked(func() error { return s.data.encode(w) })
		return err
	})
	r.Took = time.Since(began)
	return r, err
}

// byProcess sends all data to another process, as a program has to that cannot
// fork.
func (s *saver) byProcess() (r saved, err error) {
	began := time.Now()
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.Command(self, "-store", s.file)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		return r, err
	}
	r.Held, err = s.whileLocked(func() error { return s.data.encode(in) })
	if err != nil {
		_ = cmd.Process.Kill()
	}
	_ = in.Close()
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	r.Took = time.Since(began)
	return r, err
}
