//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// walls are the pools and the fork server that all goroutines use at once: with and
// without a sandbox, a fork server, and an end of a child's life.
type walls struct {
	pools  []*shm.Pool
	boxed  *shm.Pool // its children are in a sandbox that names denied calls
	server *shm.ForkServer
}

var wall walls

// maxBytes is the most bytes of a call.
const maxBytes = 1 << 18

func newWalls() (w walls) {
	for i := range 4 {
		cfg := poolConfig(i&1 != 0, i&2 != 0)
		cfg.MaxCalls = []int{0, 50, 3, 0}[i]
		p, err := shm.NewPool(short, 2, cfg)
		check(err, nil)
		w.pools = append(w.pools, p)
	}
	w.boxed = w.pools[3]
	var err error
	w.server, err = short.ForkServer(&shm.ForkServerConfig{
		Fork: shm.ForkConfig{Sandbox: &shm.Sandbox{Optional: true}}})
	check(err, nil)
	return w
}

func poolConfig(server, box bool) *shm.PoolConfig {
	cfg := &shm.PoolConfig{ForkServer: server, RestartRate: 10000, MaxIn: maxBytes, MaxOut: maxBytes,
		CPUTime: 30 * time.Second}
	if box {
		cfg.Fork.Sandbox = &shm.Sandbox{Optional: true}
		cfg.Fork.MemoryLimit = 64 << 20
	}
	return cfg
}

// close closes all, and checks that no call and no child is lost.
func (w walls) close() {
	for _, p := range w.pools {
		check(p.Drain(background), nil)
		s := p.Stats()
		expect("restarts are for failed calls", s.Restarts <= s.Failed, true)
		expect("calls", s.Calls >= s.Failed, true)
	}
	check(w.server.Close(), nil)
}

func (w walls) pool(r *rand.Rand) *shm.Pool { return w.pools[r.IntN(len(w.pools))] }

// input returns bytes at random.
func input(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(maxBytes))
	for i := 0; i+8 <= len(b); i += 8 {
		binary.NativeEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

// wallThings are what children in sandboxes, of fork servers and of Do go through.
var wallThings = map[string]func(r *rand.Rand){
	"do: answers": func(r *rand.Rand) {
		in := input(r)
		out, err := wall.pool(r).Do(background, ctest.DoEcho, in)
		check(err, nil)
		expect("answer", bytes.Equal(in, out), true)
	},
	"do: views": func(r *rand.Rand) {
		in := input(r)
		check(wall.pool(r).DoView(background, ctest.DoEcho, in, func(out []byte) error {
			expect("view", bytes.Equal(in, out), true)
			return nil
		}), nil)
	},
	"do: refusals": func(r *rand.Rand) {
		_, err := wall.pool(r).Do(background, ctest.DoFail, nil)
		var result *shm.ResultError
		expect("refused", errors.As(err, &result) && string(result.Out) == "bad input", true)
	},
	"do: crashes": func(r *rand.Rand) { crashes(r, ctest.DoCrash, nil, unix.SIGSEGV) },
	"do: aborts":  func(r *rand.Rand) { crashes(r, ctest.DoAbort, make([]byte, 1), unix.SIGABRT) },
	"do: missed deadlines": func(r *rand.Rand) {
		ctx, cancel := context.WithTimeout(background, time.Duration(r.IntN(3000))*time.Microsecond)
		defer cancel()
		_, err := wall.pool(r).Do(ctx, ctest.DoPause, nil)
		check(err, context.DeadlineExceeded)
	},
	"do: denied calls": func(r *rand.Rand) {
		_, err := wall.boxed.Do(background, ctest.DoMaps, nil)
		var exit *shm.ExitError
		if errors.As(err, &exit) { // else this kernel has no filter
			expect("denied", exit.Denied != nil, true)
		}
	},
	"fork server: children": func(r *rand.Rand) {
		check(wall.server.Call(background, ctest.Malloc), nil)
	},
	"fork server: children killed": func(r *rand.Rand) {
		p, err := wall.server.Fork(ctest.Pause)
		check(err, nil)
		check(p.Kill(), nil)
		var exit *shm.ExitError
		as(p.Wait(background), &exit)
		expect("signal", exit.Status.Signal(), unix.SIGKILL)
	},
	"pools made, used and closed": makePool,
}

func init() { maps.Copy(things, wallThings) }

// crashes has a child of a pool die of a signal.
func crashes(r *rand.Rand, work shm.DoFunc, in []byte, sig unix.Signal) {
	_, err := wall.pool(r).Do(background, work, in)
	var exit *shm.ExitError
	as(err, &exit)
	expect("signal", exit.Status.Signal(), sig)
	expect("a crash report", exit.Crash != nil, true)
}

// makePool makes a pool, and closes it while a call may be under way.
func makePool(r *rand.Rand) {
	p, err := shm.NewPool(nil, 1+r.IntN(2), poolConfig(r.IntN(2) == 0, r.IntN(2) == 0))
	check(err, nil)
	called := make(chan error)
	go func() {
		_, err := p.Do(background, ctest.DoEcho, []byte("hello"))
		called <- err
	}()
	if r.IntN(2) == 0 {
		check(<-called, nil)
		check(p.Close(), nil)
		return
	}
	check(p.Close(), nil)
	if err := <-called; err != nil { // or the answer came before
		check(err, shm.ErrPoolClosed)
	}
}
