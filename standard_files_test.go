//go:build linux && cgo

package shm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// A program that has closed its standard files, and its children: 0, 1 and 2 stay closed, whatever the
// library opens.

// withoutStandardFiles calls f while 0, 1 and 2 are closed.
func withoutStandardFiles(t *testing.T, f func()) {
	t.Helper()
	var saved [3]int
	for fd := range saved {
		saved[fd] = must(unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 64))
		require.NoError(t, unix.Close(fd))
	}
	defer func() {
		for fd := range saved {
			require.NoError(t, unix.Dup2(saved[fd], fd))
			require.NoError(t, unix.Close(saved[fd]))
		}
	}()
	f()
}

// areOpen returns which of 0, 1 and 2 are open here, as ctest.Standard does in a child.
func areOpen() (are int) {
	for fd := range 3 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			are |= 1 << fd
		}
	}
	return are
}

// status returns the exit status of a child, or -1.
func status(err error) int {
	var exit *shm.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Status.Exited():
		return exit.Status.ExitStatus()
	}
	return -1
}

func TestNothingTakesThePlaceOfStandardFiles(t *testing.T) {
	if !inOwnProcess(t, nil) {
		return
	}
	optional := func(box shm.Sandbox) *shm.Sandbox { box.Optional = true; return &box }
	in, err := os.Open("/proc/self/cmdline")
	require.NoError(t, err)
	defer in.Close()
	var out, errs bytes.Buffer
	cases := []struct {
		name string
		cfg  shm.ForkConfig
		want int // which are open in the child
	}{
		{"inherits", shm.ForkConfig{}, 0},
		{"closes", shm.ForkConfig{CloseFDs: true}, 0},
		{"keeps", shm.ForkConfig{CloseFDs: true, KeepFDs: keptFDs, KillWithParent: true}, 0},
		{"sandbox", shm.ForkConfig{Sandbox: optional(shm.Sandbox{})}, 0},
		{"read only", shm.ForkConfig{Sandbox: optional(shm.Sandbox{ReadOnly: []shm.Range{{Offset: page, Length: page}}})}, 0},
		{"paths", shm.ForkConfig{Sandbox: optional(shm.Sandbox{Paths: []shm.PathRule{{Path: "/usr"}}})}, 0},
		{"folder", shm.ForkConfig{CloseFDs: true, Dir: "/"}, 0},
		{"input", shm.ForkConfig{CloseFDs: true, Stdin: in}, 1},
		{"output", shm.ForkConfig{CloseFDs: true, Stdout: &out}, 2},
		{"errors", shm.ForkConfig{CloseFDs: true, Stderr: &errs}, 4},
		{"all", shm.ForkConfig{CloseFDs: true, Stdin: in, Stdout: &out, Stderr: &errs}, 7},
	}
	var wrong []string
	withoutStandardFiles(t, func() {
		check := func(name string, want, got int) {
			if here := areOpen(); got != want || here != 0 {
				wrong = append(wrong, fmt.Sprintf("%s: open in the child %d, want %d, here %d, want 0", name, got, want, here))
			}
		}
		m := must(shm.Map(shm.Shared, 2*page, &shm.Config{Technique: shm.Memfd}))
		must(m.Stats())
		file := must(m.File())
		again := must(shm.MapFile(file))
		detached := must(must(shm.Map(shm.Private, page, &shm.Config{Technique: shm.Memfd})).Detach())
		must(shm.Map(shm.Shared, page, &shm.Config{Technique: shm.DevZero}))
		for _, c := range cases {
			check(c.name, c.want, status(shm.Call(background, ctest.Standard, m, &c.cfg)))
			for _, server := range []bool{false, true} {
				if server && c.cfg.Stdin != nil {
					continue // which the server's children have from the server
				}
				p, err := shm.NewPool(m, 1, &shm.PoolConfig{Fork: c.cfg, ForkServer: server})
				if err != nil {
					check(fmt.Sprint(c.name, " in a pool: ", err), 0, -1)
					continue
				}
				for range 2 {
					check(fmt.Sprint(c.name, " in a pool, by a server ", server), c.want,
						must(p.Call(background, ctest.Standard, 0, page)))
				}
				check(c.name, 0, status(p.Close()))
			}
			s := must(m.ForkServer(&shm.ForkServerConfig{Fork: c.cfg}))
			for range 2 {
				check(c.name+" by a server", c.want, status(s.Call(background, ctest.Standard)))
			}
			check(c.name, 0, status(s.Close()))
		}
		for _, server := range []bool{false, true} {
			p := must(shm.NewPool(nil, 1, &shm.PoolConfig{Fork: shm.ForkConfig{Stdout: &out, Stderr: &errs}, ForkServer: server}))
			_, err := p.Do(context.Background(), ctest.DoEcho, []byte("bytes"))
			check("Do", 0, status(err))
			check("Do", 0, status(p.Close()))
		}
		says := &shm.ForkConfig{CloseFDs: true, Stdout: &out, Stderr: &errs}
		check("say", 0, status(shm.Call(background, ctest.Say, m, says)))
		for _, m := range []*shm.Mapping{m, again, detached} {
			check("close", 0, status(m.Close()))
		}
		check("close", 0, status(file.Close()))
	})
	assert.Empty(t, wrong)
	assert.Equal(t, "out 0\n", out.String())
	assert.Equal(t, "err 0\n", errs.String())
}
