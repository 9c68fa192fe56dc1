//go:build linux && cgo

package shm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// What a child gets of os/exec's settings: its standard files, directory, argument and memory.

// changed returns each of setUps with a change.
func changed(change func(cfg *shm.ForkConfig)) map[string]*shm.ForkConfig {
	all := map[string]*shm.ForkConfig{}
	for name, cfg := range setUps {
		with := shm.ForkConfig{}
		if cfg != nil {
			with = *cfg
		}
		change(&with)
		all[name] = &with
	}
	return all
}

func TestWhatAChildWritesIsCopied(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for i := range 3 {
		var out, errs *bytes.Buffer
		fresh := func(cfg *shm.ForkConfig) {
			out, errs = new(bytes.Buffer), new(bytes.Buffer)
			cfg.Stdout, cfg.Stderr, cfg.Arg = out, errs, uintptr(i)
		}
		for name := range setUps {
			cfg := changed(fresh)[name]
			cfg.Stdout, cfg.Stderr = out, errs
			out.Reset()
			errs.Reset()
			assert.NoError(t, wait(t, forkedWith(t, m, ctest.Say, cfg)), name)
			assert.Equal(t, fmt.Sprintf("out %d\n", i), out.String(), name)
			assert.Equal(t, fmt.Sprintf("err %d\n", i), errs.String(), name)

			out.Reset()
			cfg.Stderr = out
			assert.NoError(t, wait(t, forkedWith(t, m, ctest.Say, cfg)), name)
			assert.Equal(t, fmt.Sprintf("out %d\nerr %d\n", i, i), out.String(), name)
		}
	}
	assert.Zero(t, ctest.ArgHere())
}

// More than a pipe holds.
func TestMuchThatAChildWritesIsCopied(t *testing.T) {
	leavesNothing(t)
	const length = 1<<20 + 7
	m := newMapping(t, shm.Shared, length, nil)
	var out bytes.Buffer
	require.NoError(t, wait(t, forkedWith(t, m, ctest.Flood, &shm.ForkConfig{Stdout: &out})))
	assert.Equal(t, length, out.Len())
	assert.Equal(t, length, bytes.Count(out.Bytes(), []byte("x")))
}

func TestAChildHasTheFilesThatItIsGiven(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	dir := t.TempDir()
	text := strings.Repeat("in\n", 5000)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "in"), []byte(text), 0o600))
	for name, cfg := range changed(func(*shm.ForkConfig) {}) {
		in := must(os.Open(filepath.Join(dir, "in")))
		out := must(os.Create(filepath.Join(dir, "out")))
		cfg.Stdin, cfg.Stdout = in, out
		assert.NoError(t, wait(t, forkedWith(t, m, ctest.Cat, cfg)), name)
		require.NoError(t, in.Close())
		require.NoError(t, out.Close())
		assert.Equal(t, text, string(must(os.ReadFile(out.Name()))), name)
	}
	// Descriptors exchanged: none closes another.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p := forkedWith(t, m, ctest.Say, &shm.ForkConfig{Stdout: os.Stderr, Stderr: w, Stdin: r})
	require.NoError(t, w.Close())
	assert.NoError(t, wait(t, p))
	assert.Equal(t, "err 0\n", string(must(io.ReadAll(r))))
}

func TestAChildHasItsDirectory(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	dir := must(filepath.EvalSymlinks(t.TempDir()))
	here := must(os.Getwd())
	var out bytes.Buffer
	for name, cfg := range changed(func(cfg *shm.ForkConfig) { cfg.Dir, cfg.Stdout = dir, &out }) {
		out.Reset()
		assert.NoError(t, wait(t, forkedWith(t, m, ctest.Where, cfg)), name)
		assert.Equal(t, dir+"\n", out.String(), name)
	}
	assert.Equal(t, here, must(os.Getwd()))
	_, err := m.Fork(ctest.Where, &shm.ForkConfig{Dir: dir + "/none"})
	assert.EqualError(t, err, fmt.Sprintf("shm: fork %d bytes: ForkConfig.Dir: open %s/none: "+
		"no such file or directory", page, dir))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = m.Fork(ctest.Where, &shm.ForkConfig{Dir: must(os.Executable())})
	assert.ErrorIs(t, err, unix.ENOTDIR)
}

func TestForkRefusesFilesThatAreClosed(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	f := must(os.Open("/dev/null"))
	require.NoError(t, f.Close())
	for _, cfg := range []*shm.ForkConfig{
		{Stdin: f}, {Stdout: f}, {Stderr: f}, {Stdout: new(bytes.Buffer), Stderr: f},
	} {
		_, err := m.Fork(ctest.Say, cfg)
		assert.ErrorIs(t, err, unix.EBADF)
	}
	_, err := m.Fork(ctest.Say, &shm.ForkConfig{Stdout: (*os.File)(nil)})
	assert.ErrorIs(t, err, unix.EINVAL)
}

// What a child leaves behind does not hold up Wait.
func TestWaitDoesNotWaitForWhoElseHasThePipe(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	stop := must(shm.At[int32](m, 0))
	var out bytes.Buffer
	assert.NoError(t, wait(t, forkedWith(t, m, ctest.Leaver, &shm.ForkConfig{Stdout: &out})))
	assert.Equal(t, "before\n", out.String())
	atomic.StoreInt32(stop, 1)
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWaitTellsOfAWriterThatFails(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	mine := errors.New("mine")
	p := forkedWith(t, m, ctest.Say, &shm.ForkConfig{Stdout: failingWriter{mine}})
	err := wait(t, p)
	assert.ErrorIs(t, err, mine)
	assert.EqualError(t, err, fmt.Sprintf("shm: wait for child %d: copy of ForkConfig.Stdout: mine", p.Pid()))

	large := newMapping(t, shm.Shared, 1<<22, nil) // it writes on, and gets SIGPIPE
	err = wait(t, forkedWith(t, large, ctest.Flood, &shm.ForkConfig{Stdout: failingWriter{mine}}))
	var exit *shm.ExitError
	if assert.ErrorAs(t, err, &exit) {
		assert.Equal(t, unix.SIGPIPE, exit.Status.Signal())
	}
}

type lockedBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func TestPoolChildrenWriteToTheirWriter(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	var out lockedBuffer
	p := newPool(t, m, 2, &shm.PoolConfig{Fork: shm.ForkConfig{Stdout: &out, Stderr: &out, Arg: 5}})
	for i := range 10 {
		if i == 5 {
			_, err := p.Call(background, ctest.Crash, 0, 1)
			assert.ErrorAs(t, err, new(*shm.ExitError))
		}
		_, err := p.Call(background, ctest.Say, 0, 0)
		assert.NoError(t, err)
		got, err := p.Call(background, ctest.Arg, 0, 0)
		assert.NoError(t, err)
		assert.Equal(t, 5, got)
	}
	require.NoError(t, p.Close())
	assert.Equal(t, 10, strings.Count(string(out.text), "out 5\n"))
	assert.Equal(t, 10, strings.Count(string(out.text), "err 5\n"))
}

// A program without standard files: the descriptors of pipes and directories are low.
func TestStandardFilesOfAProgramWithoutAny(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	m := newMapping(t, shm.Shared, page, nil)
	dir := must(filepath.EvalSymlinks(t.TempDir()))
	saved := []int{must(unix.Dup(0)), must(unix.Dup(1)), must(unix.Dup(2))}
	var out, errs bytes.Buffer
	var results []error
	for fd := range 3 {
		results = append(results, unix.Close(fd))
	}
	for _, cfg := range changed(func(cfg *shm.ForkConfig) { cfg.Stdout, cfg.Stderr, cfg.Dir = &out, &errs, dir }) {
		for _, child := range []shm.ChildFunc{ctest.Say, ctest.Where} {
			results = append(results, shm.Call(background, child, m, cfg))
		}
	}
	for fd := range 3 {
		results = append(results, unix.Dup2(saved[fd], fd))
	}
	for _, fd := range saved {
		results = append(results, unix.Close(fd))
	}
	assert.NoError(t, errors.Join(results...))
	assert.Equal(t, len(setUps), strings.Count(out.String(), "out 0\n"))
	assert.Equal(t, len(setUps), strings.Count(out.String(), dir+"\n"))
	assert.Equal(t, strings.Repeat("err 0\n", len(setUps)), errs.String())
}

func TestMemoryLimitIsBeyondWhatAChildInherits(t *testing.T) {
	const limit = 1 << 24
	for name, cfg := range changed(func(cfg *shm.ForkConfig) { cfg.MemoryLimit = limit }) {
		for _, length := range []int{limit / 2, 2 * limit} {
			m := newMapping(t, shm.Shared, length, nil)
			var want error
			p := forkedWith(t, m, ctest.Take, cfg)
			if length > limit {
				want = &shm.ExitError{Pid: p.Pid(), Status: unix.WaitStatus(syscall.ENOMEM << 8)}
			}
			assert.Equal(t, want, wait(t, p), name)
			require.NoError(t, m.Close())
		}
	}
	// A replaced child gets as much as the first.
	m := newMapping(t, shm.Shared, 2*limit, nil)
	p := newPool(t, m, 1, &shm.PoolConfig{Fork: shm.ForkConfig{MemoryLimit: limit}, MaxCalls: 1})
	for range 3 {
		got, err := p.Call(background, ctest.Take, 0, limit*3/4)
		assert.NoError(t, err)
		assert.Zero(t, got)
	}
	got, err := p.Call(background, ctest.Take, 0, 2*limit)
	assert.NoError(t, err)
	assert.Equal(t, int(unix.ENOMEM), got)
	_, err = m.Fork(ctest.Take, &shm.ForkConfig{MemoryLimit: -1})
	assert.EqualError(t, err, fmt.Sprintf("shm: fork %d bytes: ForkConfig.MemoryLimit is -1, "+
		"must not be negative: invalid argument", 2*limit))
	_, err = m.Fork(ctest.Take, &shm.ForkConfig{MemoryLimit: 1, Limits: []shm.Limit{{Resource: unix.RLIMIT_AS}}})
	assert.ErrorIs(t, err, unix.EINVAL)
}

// A fork server's children have what the configuration of the server says.
func TestForkServersChildrenHaveTheirFiles(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	dir := must(filepath.EvalSymlinks(t.TempDir()))
	out := must(os.Create(filepath.Join(dir, "out")))
	defer out.Close()
	s, err := m.ForkServer(&shm.ForkServerConfig{Fork: shm.ForkConfig{
		Stdout: out, Stderr: out, Dir: dir, Arg: 7, MemoryLimit: 1 << 24,
	}})
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	for _, child := range []shm.ChildFunc{ctest.Say, ctest.Where, ctest.Take} {
		assert.NoError(t, s.Call(background, child))
	}
	assert.Equal(t, "out 7\nerr 7\n"+dir+"\n", string(must(os.ReadFile(out.Name()))))
}
