//go:build linux && cgo

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/testenv"
)

func TestNoRequestIsLostButTheBad(t *testing.T) {
	testenv.NeedTime(t)
	for _, file := range []string{"main.go", "parser.c"} {
		// The go command caches no result of a test whose files have changed.
		_, err := os.ReadFile(file)
		require.NoError(t, err)
	}
	program := filepath.Join(t.TempDir(), "parser")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command(program, "-requests", "1000", "-bad", "20").CombinedOutput()
	require.NoError(t, err, "%s", out)
	last := regexp.MustCompile(
		`1000 requests in \S+ (\d+) answered, (\d+) made the parser crash, 0 lost`)
	counts := last.FindSubmatch(out)
	require.NotNil(t, counts, "%s", out)
	answered, err := strconv.Atoi(string(counts[1]))
	require.NoError(t, err)
	crashed, err := strconv.Atoi(string(counts[2]))
	require.NoError(t, err)
	assert.Equal(t, 1000, answered+crashed)
	assert.Positive(t, crashed)
	assert.Contains(t, string(out), `"SIGSEGV":`+strconv.Itoa(crashed))
	assert.Contains(t, string(out), `"Live":0`)
}

func init() { hook.KillTimeout = 5 * time.Minute } // for a hang, and not for a slow machine

func TestBadMessageIsRefusedWithThePlace(t *testing.T) {
	s, err := newServer(1)
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.close()) }()
	got, err := s.parse(t.Context(), []byte{1, 5, 2, 2})
	assert.NoError(t, err)
	assert.Equal(t, answer{2, 29}, got)
	_, err = s.parse(t.Context(), []byte{1, 5, 2})
	assert.EqualError(t, err, "the message ends within a field")
	_, err = s.parse(t.Context(), []byte{1, 5, 99, 2})
	var ended *shm.ExitError
	require.ErrorAs(t, err, &ended)
	assert.Zero(t, ended.Crash.Addr, "it followed a null pointer")
	got, err = s.parse(t.Context(), []byte{2, 1})
	assert.NoError(t, err)
	assert.Equal(t, answer{1, 12}, got)
}
