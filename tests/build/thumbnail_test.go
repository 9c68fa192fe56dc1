//go:build linux && cgo

package build_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm/internal/testenv"
)

// buildThumbnail builds examples/thumbnail, which is a module of its own.
func buildThumbnail(t *testing.T) string {
	t.Helper()
	testenv.NeedTime(t)
	testenv.NeedCC(t)
	testenv.NeedDynamic(t)
	for _, file := range must(filepath.Glob("examples/thumbnail/*")) {
		must(os.ReadFile(file)) // the go command caches no result of a test whose files have changed
	}
	program := filepath.Join(t.TempDir(), "thumbnail")
	err := testenv.Go("examples/thumbnail", "build", "-o", program, ".")
	if err != nil && strings.Contains(err.Error(), "this example needs libjpeg and libpng") {
		t.Skip("there is no libjpeg or no libpng (Debian: libjpeg-dev, libpng-dev)")
	}
	require.NoError(t, err)
	return program
}

// Each file of the load has the response that is right for it, and every wall is tried.
func TestThumbnailsOfHostileFiles(t *testing.T) {
	program := buildThumbnail(t)
	assert.NoError(t, testenv.Go("examples/thumbnail", "vet", "."))
	assert.NoError(t, testenv.Go("examples/thumbnail", "run", "forkshm.example/shm/cmd/childheader", "-check"))
	out, err := exec.Command(program, "-load", "-requests", "120", "-bad", "60", "-clients", "4",
		"-cpu", "300ms", "-deadline", "5m").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, line := range []string{
		`120 requests in \S+, 0 responses wrong`, `good files: \d+, median \S+, p99 \S+`,
		`crashes survived: .*(aborted|segmentation fault) \d+`, `denied system calls: .*\w+ \d+`,
		`corrupt +200 +\d+`, `children that are left: 0`,
	} {
		assert.Regexp(t, regexp.MustCompile(line), string(out))
	}
}

// What each line of the configuration takes away: all of it happens without the line.
func TestThumbnailsWithoutTheirWalls(t *testing.T) {
	out, err := exec.Command(buildThumbnail(t), "-walls").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, line := range []string{
		`malicious: write +the server ends: exit status 2 +signal: segmentation fault`,
		`malicious: abort +the server ends: exit status 2 +signal: aborted`,
		`malicious: open +"read \d+ bytes of /etc/passwd" +sandbox: system call openat denied`,
		`malicious: connect +".*" +sandbox: system call socket denied`,
		`malicious: fork +"made a process of its own" +sandbox: system call clone denied`,
		`malicious: peek +".*" +sandbox: system call process_vm_readv denied`,
		`malicious: signal +"sent the server a signal" +sandbox: system call kill denied`,
		`huge +a thumbnail, by 732 MiB of memory +"no memory for 16000 x 16000 pixels"`,
		`malicious: loop +still runs after 3s +the call has used up its processor time of 500ms`,
		`malicious: poison +the next file becomes "the attacker's picture" +"poisoned"`,
		`good, beside 256 MiB +\S+ +\S+`,
	} {
		assert.Regexp(t, regexp.MustCompile(line), string(out))
	}
}
