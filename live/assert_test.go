//go:build linux && cgo && livego

package live_test

import (
	"os"
	"os/exec"
	"testing"

	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// With LIVE_ASSERT a child looks at its runtime. What the variable names is
// broken first.
func TestAChildSeesThatItsRuntimeIsBroken(t *testing.T) {
	const inside = "LIVE_TEST_ASSERT"
	if os.Getenv(inside) != "" {
		p, err := live.Go(func() int { return good })
		require.NoError(t, err)
		os.Exit(wait(t, p))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	for what, message := range map[string]string{
		"1":         "",
		"lock":      "a lock of the runtime is held",
		"thread":    "the thread has another's id",
		"processor": "a P has goroutines",
		"goroutine": "a goroutine of the program would run",
	} {
		t.Run(what, func(t *testing.T) {
			cmd := exec.Command(self, "-test.run=^TestAChildSeesThatItsRuntimeIsBroken$")
			cmd.Env = append(os.Environ(), inside+"=1", "LIVE_ASSERT="+what)
			out, err := cmd.CombinedOutput()
			if message == "" {
				assert.Equal(t, good, cmd.ProcessState.ExitCode(), "%v %s", err, out)
				return
			}
			assert.Equal(t, 2, cmd.ProcessState.ExitCode(), "%v %s", err, out)
			assert.Contains(t, string(out), "live: "+message+"\n")
			assert.Contains(t, string(out), "the runtime of a forked child is not whole")
		})
	}
}
