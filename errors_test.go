//go:build linux && cgo

package shm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

// An error names the operation and what was wrong with it.
func TestErrorsSayWhatWasWrong(t *testing.T) {
	private := newMapping(t, shm.Private, page, &shm.Config{Technique: shm.Anonymous})
	shared := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
	closed := newMapping(t, shm.Private, page, nil)
	require.NoError(t, closed.Close())
	empty := must(os.Create(filepath.Join(t.TempDir(), "empty")))
	defer empty.Close()

	_, detach := shared.Detach()
	_, length := private.ObjectLen()
	_, file := private.File()
	_, slice := shm.Slice[uint64](private, 0, -5)
	_, mapFile := shm.MapFile(empty)
	for _, row := range []struct {
		err  error
		want string
	}{
		{private.MoveTo(closed), "shm: move: the destination: mapping is closed"},
		{detach, fmt.Sprintf("shm: detach %d bytes: a MAP_SHARED mapping with HugeNone, must be "+
			"MAP_PRIVATE and not HugeExplicit: unsupported operation", page)},
		{length, "shm: object length: a MAP_PRIVATE mapping of MAP_ANONYMOUS has no object, must " +
			"be MAP_SHARED and memfd: unsupported operation"},
		{file, "shm: file: a MAP_PRIVATE mapping of MAP_ANONYMOUS has no object, must be " +
			"MAP_SHARED and memfd: unsupported operation"},
		{slice, "shm: slice: -5 elements of 8 bytes at offset 0: out of range"},
		{mapFile, "shm: map file: " + empty.Name() +
			": the file is empty, must have at least one byte: invalid argument"},
		{shared.Resize(2*page, shm.MayMove), fmt.Sprintf("shm: resize to %d bytes: the mapping "+
			"was created with %d bytes: a shared mapping cannot grow past its first size (use "+
			"Config.Reserve, or Memfd)", 2*page, page)},
	} {
		assert.EqualError(t, row.err, row.want)
	}
	assert.Equal(t, "HugePages(7)", shm.HugePages(7).String())
}

// What a kernel is too old for is said, and changes nothing.
func TestDetachSaysWhatLinuxItNeeds(t *testing.T) {
	if os.Getenv("SHM_TEST_OLD_KERNEL") != "" {
		refuseDontUnmap(t)
		for _, technique := range []shm.Technique{shm.Anonymous, shm.DevZero, shm.Memfd} {
			m := newMapping(t, shm.Private, 4*page, &shm.Config{Technique: technique})
			want := pattern(m)
			_, err := m.Detach()
			assert.ErrorIs(t, err, unix.EINVAL)
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.ErrorContains(t, err,
				"needs Linux 5.7, or 5.13 for memory that is shared, of /dev/zero or of a memfd")
			assert.Equal(t, want, m.Bytes())
			if technique == shm.Memfd {
				continue
			}
			other := newMapping(t, shm.Private, 4*page, &shm.Config{Technique: technique})
			err = m.Swap(other)
			assert.ErrorContains(t, err, "needs Linux 5.7")
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.Equal(t, want, m.Bytes())
			assert.Equal(t, make([]byte, 4*page), other.Bytes())
		}
		return
	}
	cmd := exec.Command(must(os.Executable()), "-test.run=^TestDetachSaysWhatLinuxItNeeds$")
	cmd.Env = append(os.Environ(), "SHM_TEST_OLD_KERNEL=1", "SHM_TEST_PROCESS=none")
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

// refuseDontUnmap has this process's mremap(2) refuse MREMAP_DONTUNMAP, as old
// kernels do.
func refuseDontUnmap(t *testing.T) {
	// The words of struct seccomp_data, little-endian.
	const data, nr, flags = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, 0, 16 + 3*8
	filter := []unix.SockFilter{
		{Code: data, K: nr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_MREMAP, Jf: 3},
		{Code: data, K: flags},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.MREMAP_DONTUNMAP, Jf: 1},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	require.Zero(t, errno)
}
