package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"forkshm.example/shm/live"
)

// saved is what a snapshot was.
type saved struct {
	Took   time.Duration
	Held   time.Duration // how long writers had to wait
	Pause  time.Duration // of that, how long the whole program stood still
	Copied int64         // bytes of memory that it cost
}

// method is a way to save a point in time. To lock part after part would hold
// writers up for less, and save no such point.
type method struct {
	name, text string
	save       func(*server) (saved, error)
}

var methods = []method{
	{"fork", "live fork", (*server).saveByFork},
	{"lock", "encode under the lock", (*server).saveUnderLock},
	{"exec", "stream to a process, under the lock", (*server).saveByProcess},
}

// watch says how long locks that are taken after it, and released before, were
// held.
type watch struct {
	began time.Time
	held  time.Duration
}

func (w *watch) Lock()   { w.began = time.Now() }
func (w *watch) Unlock() { w.held = time.Since(w.began) }

func (s *server) saveByFork() (saved, error) {
	began := time.Now()
	var held watch
	encode := func(w io.Writer) error {
		// The child gives way to requests. A thread has a niceness of its own, and its new threads
		// inherit it.
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

// underLock calls encode with all writers kept out.
func (s *server) underLock(encode func() error) (held time.Duration, err error) {
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

// saveUnderLock lets writers go on before the file is synced.
func (s *server) saveUnderLock() (r saved, err error) {
	began := time.Now()
	err = replaceFile(s.file, func(w io.Writer) (err error) {
		r.Held, err = s.underLock(func() error { return s.data.encode(w) })
		return err
	})
	r.Took = time.Since(began)
	return r, err
}

// saveByProcess is what is left to a program that cannot fork: another process,
// which has to be sent all.
func (s *server) saveByProcess() (r saved, err error) {
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
	r.Held, err = s.underLock(func() error { return s.data.encode(in) })
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

// save saves by a method, one at a time.
func (s *server) save(name string) (string, error) {
	for _, m := range methods {
		if m.name != name {
			continue
		}
		if !s.busy.TryLock() {
			return "", live.ErrSaving
		}
		defer s.busy.Unlock()
		r, err := m.save(s)
		if err != nil {
			return "", err
		}
		s.lastSave.Store(time.Now().Unix())
		b, err := json.Marshal(r)
		return string(b), err
	}
	return "", fmt.Errorf("no method %q", name)
}
