//go:build linux && cgo

package shm_test

import (
	"context"
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/testenv"
)

// needCallers skips a test of Crash.Callers where there are none.
func needCallers(t *testing.T) {
	t.Helper()
	if !ctest.HasUnwinder() || testenv.IsStatic() {
		t.Skip("callers need glibc 2.35, linked dynamically")
	}
}

// namesOf returns the functions of callers, without those of libc. A function
// that ends in a call of abort may be split by the compiler.
func namesOf(callers []shm.Frame) (names []string) {
	for _, f := range callers {
		if !strings.Contains(f.Module, "/libc") {
			names = append(names, strings.TrimSuffix(f.Symbol, ".cold"))
		}
	}
	return names
}

// What libc aborts says which functions of the program led there, however the
// child was made, in a sandbox too. It runs as a part of tests/build,
// TestCrashIsReportedByName.
func TestAbortTellsWhoCalled(t *testing.T) {
	needCallers(t)
	leavesNothing(t)
	for how := 1; how <= 3; how++ {
		m := newMapping(t, shm.Shared, how, &shm.Config{Technique: shm.Anonymous})
		server, err := m.ForkServer(nil)
		require.NoError(t, err)
		p := newPool(t, m, 1, &shm.PoolConfig{RestartRate: 1e6})
		for by, err := range map[string]error{
			"fork":    shm.Call(background, ctest.Abort, m, nil),
			"forker":  shm.Call(background, ctest.Abort, m, &shm.ForkConfig{KillWithParent: true, Lean: true}),
			"sandbox": shm.Call(background, ctest.Abort, m, inSandbox(shm.Sandbox{Optional: true})),
			"server":  server.Call(background, ctest.Abort),
			"pool":    errOf(p.Call(background, ctest.Abort, 0, how)),
			"do":      errOf(p.Do(background, ctest.DoAbort, make([]byte, how))),
		} {
			var exit *shm.ExitError
			require.ErrorAs(t, err, &exit, by)
			assert.Equal(t, unix.SIGABRT, exit.Status.Signal(), by)
			require.NotNil(t, exit.Crash, by)
			want := []string{"abort_here", "abort_outer", "child_abort"}
			if by == "do" {
				want[2] = "do_abort"
			}
			if !hasSymbols() {
				clear(want)
			}
			assert.Equal(t, want, namesOf(exit.Crash.Callers()), "%s: %v", by, exit)
			assert.Contains(t, exit.Error(), ", called by ")
			if hasSymbols() {
				assert.Regexp(t, `, called by \S+, .*abort_here\S*\+0x[0-9a-f]+, abort_outer\+0x[0-9a-f]+, `+
					want[2]+`\+0x[0-9a-f]+$`, exit.Error())
			}
		}
		require.NoError(t, server.Close())
		require.NoError(t, p.Close())
	}
}

func errOf[T any](_ T, err error) error { return err }

// A fault in libc, too. The text of such an error has the place alone.
func TestFaultTellsWhoCalled(t *testing.T) {
	needCallers(t)
	m := newMapping(t, shm.Shared, 1, nil)
	err := shm.Call(background, ctest.BadString, m, nil)
	var exit *shm.ExitError
	require.ErrorAs(t, err, &exit)
	require.NotNil(t, exit.Crash)
	want := []string{"length_of", "child_bad_string"}
	if !hasSymbols() {
		clear(want)
	}
	assert.Equal(t, want, namesOf(exit.Crash.Callers()), "%v", exit)
	assert.NotContains(t, exit.Error(), "called by")
}

// Where the stack is damaged, the child dies of the same signal, and the report
// lacks callers.
func TestAbortWithADamagedStack(t *testing.T) {
	leavesNothing(t)
	for how := 1; how <= 2; how++ {
		m := newMapping(t, shm.Shared, how, &shm.Config{Technique: shm.Anonymous})
		for _, cfg := range []*shm.ForkConfig{nil, inSandbox(shm.Sandbox{Optional: true})} {
			ctx, cancel := context.WithTimeout(background, 2*time.Minute)
			err := shm.Call(ctx, ctest.AbortOn, m, cfg)
			cancel()
			var exit *shm.ExitError
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, unix.SIGABRT, exit.Status.Signal(), "%v", exit)
			require.NotNil(t, exit.Crash)
			assert.NotZero(t, exit.Crash.PC)
		}
	}
}

// Where the unwinder cannot be loaded, a child that aborts does not try to load
// it: another thread of its parent may have had the loader's or malloc's lock.
func TestAbortWithoutUnwinder(t *testing.T) {
	const name = "libgcc_s.so.1"
	program, err := elf.Open(must(os.Executable()))
	require.NoError(t, err)
	if slices.Contains(must(program.ImportedLibraries()), name) {
		t.Skip("this program does not start without " + name)
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	t.Setenv("LD_LIBRARY_PATH", dir)
	if !inOwnProcess(t, nil) {
		return
	}
	for how := 1; how <= 3; how++ {
		m := newMapping(t, shm.Shared, how, &shm.Config{Technique: shm.Anonymous})
		ctx, cancel := context.WithTimeout(background, 2*time.Minute)
		err := shm.Call(ctx, ctest.Abort, m, nil)
		cancel()
		var exit *shm.ExitError
		require.ErrorAs(t, err, &exit)
		assert.Equal(t, unix.SIGABRT, exit.Status.Signal(), "%v", exit)
		require.NotNil(t, exit.Crash)
		assert.Empty(t, exit.Crash.Callers())
	}
}

// Callers are what a child writes. The parent names functions of its own modules
// only, and counts no more callers than a record has.
func TestCallersThatLie(t *testing.T) {
	here := uint64(reflectPC())
	for _, located := range []bool{false, true} {
		for _, count := range []uint32{0, 1, 16, 17, 1 << 31, 1<<32 - 1} {
			callers := shm.CallersOf(count, located, here, 1, 1<<47, 1<<64-1)
			assert.Len(t, callers, int(min(count, 16)))
			for i, f := range callers {
				if located { // it names no file of this process
					assert.Empty(t, f.Module)
				}
				assert.Equal(t, i == 0 && !located, f.Module != "", "%d %v", i, f)
			}
		}
	}
	exit := shm.ExitError{Status: unix.WaitStatus(unix.SIGABRT),
		Crash: shm.CrashWith(1, slices.Repeat([]shm.Frame{{PC: 2}}, 16))}
	assert.Equal(t, "child 0: signal: aborted, at 0x1, called by 0x2"+strings.Repeat(", 0x2", 15), exit.Error())
}
