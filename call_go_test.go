//go:build linux && cgo

package shm_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/ctest/callgo"
)

// The likeliest mistake: a child's C calls Go. It ends at once, and Wait says
// why, however it was forked.
func TestChildThatCallsGoSaysSo(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	want := &shm.ExitError{Status: 2 << 8, CalledGo: true}
	for name, cfg := range setUps {
		for _, child := range []shm.ChildFunc{callgo.Child, callgo.ChildOnThread} {
			if name == "NoCrashReport" { // there is no room for the message: it goes to stderr
				continue
			}
			p := forkedWith(t, m, child, cfg)
			want.Pid = p.Pid()
			assert.Equal(t, want, wait(t, p), name)
		}
	}
	want.Pid = 4711
	assert.EqualError(t, want,
		"child 4711: exit status 2: the child called Go, but a forked child can run C only")

	pool := must(shm.NewPool(m, 1, nil))
	_, err := pool.Call(background, callgo.Child, 0, 0)
	assert.ErrorContains(t, err, "the child called Go")
	_, err = pool.Call(background, ctest.Increment, 0, 4)
	assert.NoError(t, err)
	assert.NoError(t, pool.Close())

	assert.Zero(t, callgo.Here(), "Go ran nowhere")
	assert.Equal(t, 41, callgo.Call(), "in this process it runs")
}

// Where the child has no room for a message, as after the plain Fork, its
// stderr has it.
func TestChildThatCallsGoWithoutAReport(t *testing.T) {
	const env = "SHM_TEST_CALLS_GO"
	if os.Getenv(env) != "" {
		m := must(shm.Map(shm.Shared, page, nil))
		var status unix.WaitStatus
		if os.Getenv(env) == "raw" {
			pid := must(shm.Fork(callgo.Child, m.Addr(), page))
			var err error
			_, status, err = shm.Waitpid(pid, 0)
			require.NoError(t, err)
		} else {
			var exit *shm.ExitError
			require.ErrorAs(t, wait(t, forkedWith(t, m, callgo.Child, setUps["NoCrashReport"])),
				&exit)
			status = exit.Status
		}
		assert.Equal(t, unix.WaitStatus(2<<8), status)
		return
	}
	for _, how := range []string{"raw", "NoCrashReport"} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1",
			"-test.v")
		cmd.Env = append(os.Environ(), env+"="+how)
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s: %s", how, out)
		assert.Contains(t, string(out),
			"shm: a forked child called Go, but has no Go runtime: it can run C only\n", how)
		assert.Contains(t, string(out), "--- PASS: "+t.Name(), how)
	}
}
