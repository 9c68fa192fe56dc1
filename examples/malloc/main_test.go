//go:build linux && cgo

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func build(t *testing.T) string {
	_, err := os.ReadFile("main.go") // so that go test does not take a former result for this one's
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "malloc")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

func TestMallocMapsAndRemaps(t *testing.T) {
	out, err := exec.Command(build(t)).Output()
	require.NoError(t, err)
	// 4096 bytes more than was asked for: the block's header, to a whole page.
	assert.Equal(t, strings.TrimLeft(`
the threshold is 128 KiB at first
malloc(65536): mapped blocks +0, bytes in them +0
malloc(1048576): mapped blocks +1, bytes in them +1052672
realloc(67108864): mapped blocks +0, bytes in them +66060288
free: mapped blocks -1, bytes in them -67112960
free: mapped blocks +0, bytes in them +0
mallopt(M_MMAP_THRESHOLD, 4194304)
malloc(1048576): mapped blocks +0, bytes in them +0
mallopt(M_MMAP_THRESHOLD, 524288)
malloc(1048576): mapped blocks +1, bytes in them +1052672
free: mapped blocks -1, bytes in them -1052672
free: mapped blocks +0, bytes in them +0
`, "\n"), string(out))
}

func TestReallocGoesByMremap(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: system calls are not looked at")
	}
	program := build(t)
	trace := filepath.Join(t.TempDir(), "trace")
	out, err := exec.Command(strace, "-ff", "-o", trace, // a file a thread
		"-e", "trace=mmap,mremap,munmap", program).CombinedOutput()
	require.NoError(t, err, "%s", out)
	files, err := filepath.Glob(trace + ".*")
	require.NoError(t, err)
	var calls strings.Builder
	for _, file := range files {
		thread, err := os.ReadFile(file)
		require.NoError(t, err)
		calls.Write(thread)
	}
	assert.Regexp(t, `mmap\(NULL, 1052672, PROT_READ\|PROT_WRITE, MAP_PRIVATE\|MAP_ANONYMOUS, -1, 0\) = (0x[0-9a-f]+)
(.*\n)*.*mremap\(0x[0-9a-f]+, 1052672, 67112960, MREMAP_MAYMOVE\) = 0x[0-9a-f]+
(.*\n)*.*munmap\(0x[0-9a-f]+, 67112960\) += 0`, calls.String())
}
