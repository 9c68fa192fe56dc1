//go:build linux && cgo

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

var (
	background = context.Background()
	short      *shm.Mapping             // for children that ignore the length
	sized      = map[int]*shm.Mapping{} // by length, for children that take it as a number
	pool       *shm.Pool
)

var things = map[string]func(r *rand.Rand){
	"children that exited": func(r *rand.Rand) {
		status := 1 + r.IntN(255)
		var exit *shm.ExitError
		as(fork(r, ctest.Exit, sized[status]).Wait(background), &exit)
		expect("exit status", exit.Status.ExitStatus(), status)
	},
	"children that crashed": func(r *rand.Rand) {
		how := 1 + r.IntN(6)
		var exit *shm.ExitError
		as(fork(r, ctest.Crash, sized[how]).Wait(background), &exit)
		expect("signal", exit.Status.Signal(),
			[]unix.Signal{unix.SIGSEGV, unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGABRT,
				unix.SIGBUS}[how-1])
	},
	"children killed": func(r *rand.Rand) {
		p := fork(r, ctest.Pause, short)
		_, err := p.Memory()
		check(err, nil)
		check(p.Kill(), nil)
		var exit *shm.ExitError
		as(p.Wait(background), &exit)
		expect("signal", exit.Status.Signal(), unix.SIGKILL)
		check(p.Kill(), os.ErrProcessDone)
	},
	"children stopped and continued": func(r *rand.Rand) {
		p := fork(r, ctest.Pause, short)
		check(p.Signal(unix.SIGSTOP), nil)
		status, err := p.WaitChange(background)
		check(err, nil)
		expect("stopped", status.Stopped(), true)
		check(p.Signal(unix.SIGCONT), nil)
		status, err = p.WaitChange(background)
		check(err, nil)
		expect("continued", status.Continued(), true)
		check(p.Kill(), nil)
		_ = p.Wait(background)
	},
	"calls that missed their deadline": func(r *rand.Rand) {
		ctx, cancel := context.WithTimeout(background, time.Duration(r.IntN(5000))*time.Microsecond)
		defer cancel()
		check(shm.Call(ctx, ctest.Pause, short, config(r)), context.DeadlineExceeded)
	},
	"children that closed everything": func(r *rand.Rand) {
		check(shm.Call(background, ctest.CloseAll, short, config(r)), nil)
	},
	"children that forked": func(r *rand.Rand) {
		check(fork(r, ctest.Chain, sized[1+r.IntN(3)]).Wait(background), nil)
	},
	"children whose child crashed": func(r *rand.Rand) {
		var exit *shm.ExitError
		as(fork(r, ctest.Grief, short).Wait(background), &exit)
		expect("signal", exit.Status.Signal(), unix.SIGSEGV)
		expect("address", exit.Crash == nil || exit.Crash.Code <= 0, true)
	},
	"children in a sandbox": func(r *rand.Rand) {
		cfg := config(r)
		if cfg == nil {
			cfg = new(shm.ForkConfig)
		}
		cfg.Sandbox = &shm.Sandbox{OnDeny: shm.Deny(r.IntN(3)), Optional: true}
		check(shm.Call(background, ctest.Malloc, short, cfg), nil)
	},
	"children that were denied a call": func(r *rand.Rand) {
		cfg := &shm.ForkConfig{KillWithParent: r.IntN(2) == 0, Sandbox: &shm.Sandbox{Optional: true}}
		p, err := short.Fork(ctest.Threads, cfg)
		check(err, nil)
		var exit *shm.ExitError
		as(p.Wait(background), &exit)
		expect("denied", exit.Denied != nil, p.Sandboxed().Filter)
	},
	"children waited for by many": func(r *rand.Rand) {
		p := fork(r, ctest.Exit, sized[7])
		answers := make(chan error)
		for range 10 {
			go func() { answers <- p.Wait(background) }()
		}
		first := <-answers
		for range 9 {
			expect("answer", <-answers, first)
		}
	},
	"forks whose limits were refused": func(r *rand.Rand) {
		_, err := short.Fork(ctest.Exit,
			&shm.ForkConfig{Lean: r.IntN(2) == 0, Limits: []shm.Limit{{Resource: 99}}})
		check(err, unix.EINVAL)
	},
	"children forgotten": func(r *rand.Rand) { fork(r, ctest.Increment, short) },
	"pool: calls": func(r *rand.Rand) {
		_, err := pool.Call(background, ctest.Count, 0, 4)
		check(err, nil)
	},
	"pool: long calls": func(r *rand.Rand) {
		_, err := pool.Call(background, ctest.Sleep, 0, 1+r.IntN(5))
		check(err, nil)
	},
	"pool: crashes": func(r *rand.Rand) {
		_, err := pool.Call(background, ctest.Crash, 0, 1+r.IntN(6))
		var exit *shm.ExitError
		as(err, &exit)
	},
	"pool: missed deadlines": func(r *rand.Rand) {
		ctx, cancel := context.WithTimeout(background, time.Duration(r.IntN(5000))*time.Microsecond)
		defer cancel()
		_, err := pool.Call(ctx, ctest.Pause, 0, 0)
		check(err, context.DeadlineExceeded)
	},
	"programs run by os/exec": func(r *rand.Rand) { check(exec.Command("true").Run(), nil) },
	"heaps grown and collected": func(r *rand.Rand) {
		held := make([][]byte, 0, 64)
		for range cap(held) {
			held = append(held, make([]byte, 1<<r.IntN(20)))
		}
		for i, b := range held {
			for j := range b {
				b[j] = byte(i)
			}
		}
		runtime.GC()
		for i, b := range held {
			for j := range b {
				expect("the heap", b[j], byte(i))
			}
		}
	},
	"a parent killed with 100 children": func(r *rand.Rand) {
		self, err := os.Executable()
		check(err, nil)
		cmd := exec.Command(self, "-orphans")
		ready, err := cmd.StdoutPipe() // the children hold it too
		check(err, nil)
		check(cmd.Start(), nil)
		_, err = io.ReadFull(ready, make([]byte, 6))
		check(err, nil)
		check(cmd.Process.Kill(), nil)
		_, err = io.ReadAll(ready) // ends with the last of them
		check(err, nil)
		_ = cmd.Wait()
	},
}

func beParent() {
	for range 100 {
		_, err := short.Fork(ctest.Pause, &shm.ForkConfig{KillWithParent: true})
		check(err, nil)
	}
	fmt.Println("ready")
	select {}
}

// config returns one at random. All allow what children do here.
func config(r *rand.Rand) *shm.ForkConfig {
	if r.IntN(8) == 0 {
		return nil
	}
	yes := func() bool { return r.IntN(2) == 0 }
	cfg := &shm.ForkConfig{KillWithParent: yes(), Lean: yes(), CloseFDs: yes(),
		NoCrashReport: yes(), Nice: r.IntN(3)}
	if cfg.CloseFDs {
		cfg.KeepFDs = []int{2}
	}
	if yes() {
		cfg.Limits = []shm.Limit{{Resource: unix.RLIMIT_CORE}}
	}
	return cfg
}

func fork(r *rand.Rand, child shm.ChildFunc, m *shm.Mapping) *shm.Process {
	p, err := m.Fork(child, config(r))
	check(err, nil)
	return p
}

func newMapping(length int) *shm.Mapping {
	m, err := shm.Map(shm.Shared, length, nil)
	check(err, nil)
	return m
}
