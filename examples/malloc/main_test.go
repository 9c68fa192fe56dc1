//go:build linux && cgo

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm/internal/testenv"
)

// build builds the example, and skips the test where the C library is not the
// one that it is about.
func build(t *testing.T) string {
	testenv.NeedTime(t)
	_, err := os.ReadFile("main.go") // so that go test does not take a former result for this one's
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "malloc")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	var stderr strings.Builder
	run := exec.Command(program)
	run.Stderr = &stderr
	if err := run.Run(); err != nil &&
		strings.Contains(stderr.String(), "this C library is another") {
		t.Skip(strings.TrimSpace(stderr.String()))
	}
	return program
}

func TestMallocMapsAndRemaps(t *testing.T) {
	out, err := exec.Command(build(t)).Output()
	require.NoError(t, err)
	page := os.Getpagesize() // more than was asked for: the block's header, to a whole page
	assert.Equal(t, fmt.Sprintf(strings.TrimLeft(`
the threshold is 128 KiB at first
malloc(65536): mapped blocks +0, bytes in them +0
malloc(1048576): mapped blocks +1, bytes in them +%[1]d
realloc(67108864): mapped blocks +0, bytes in them +66060288
free: mapped blocks -1, bytes in them -%[2]d
free: mapped blocks +0, bytes in them +0
mallopt(M_MMAP_THRESHOLD, 4194304)
malloc(1048576): mapped blocks +0, bytes in them +0
mallopt(M_MMAP_THRESHOLD, 524288)
malloc(1048576): mapped blocks +1, bytes in them +%[1]d
free: mapped blocks -1, bytes in them -%[1]d
free: mapped blocks +0, bytes in them +0
`, "\n"), 1<<20+page, 64<<20+page), string(out))
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
	page := os.Getpagesize()
	assert.Regexp(t, fmt.Sprintf(`mmap\(NULL, %[1]d, PROT_READ\|PROT_WRITE, MAP_PRIVATE\|MAP_ANONYMOUS, -1, 0\) = (0x[0-9a-f]+)
(.*\n)*.*mremap\(0x[0-9a-f]+, %[1]d, %[2]d, MREMAP_MAYMOVE\) = 0x[0-9a-f]+
(.*\n)*.*munmap\(0x[0-9a-f]+, %[2]d\) += 0`, 1<<20+page, 64<<20+page), calls.String())
}
