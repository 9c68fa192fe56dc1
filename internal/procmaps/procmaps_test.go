//go:build linux

package procmaps

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func parseAll(b []byte) (vmas []VMA, err error) {
	err = parse(bytes.NewReader(b), func(v VMA, _ error) bool {
		vmas = append(vmas, v)
		return true
	})
	return vmas, err
}

func parseAllSmaps(b []byte) (smaps []Smap, err error) {
	err = parseSmaps(bytes.NewReader(b), func(s Smap, _ error) bool {
		smaps = append(smaps, s)
		return true
	})
	return smaps, err
}

func TestLinesOfMaps(t *testing.T) {
	long := strings.Repeat("/a name of 20 bytes ", 1<<13)
	for line, want := range map[string]VMA{
		"00400000-0048a000 r-xp 00000000 fd:03 960637       /bin/bash": {0x400000, 0x48a000,
			Readable | Executable, 0, 0xfd, 3, 960637, "/bin/bash"},
		"00e03000-00e24000 rw-p 00000000 00:00 0 ": {0xe03000, 0xe24000, Readable | Writable, 0, 0,
			0, 0, ""},
		"00e03000-00e24000 ---s 00000000 00:00 0": {0xe03000, 0xe24000, Shared, 0, 0, 0, 0, ""},
		"c000000-d000000 rw-s 10000000000 00:01 18446744073709551615  /memfd:with  two spaces, " +
			"ends with one  (deleted) ": {0xc000000, 0xd000000,
			Readable | Writable | Shared, 1 << 40, 0, 1, math.MaxUint64,
			"/memfd:with  two spaces, ends with one  (deleted) "},
		"1000-2000 rw-p 00000000 00:00 0    [anon: Go: heap]": {0x1000, 0x2000, Readable | Writable,
			0, 0, 0, 0, "[anon: Go: heap]"},
		"1000-2000 rw-p 0 103:5 7    " +
			long: {0x1000, 0x2000, Readable | Writable, 0, 0x103, 5, 7, long},
		"1000-2000 r--p 0 0:0 1 " +
			"/two\\012lines": {0x1000, 0x2000, Readable, 0, 0, 0, 1, "/two\\012lines"},
	} {
		vmas, err := parseAll([]byte(line + "\n"))
		require.NoError(t, err)
		assert.Equal(t, []VMA{want}, vmas)
		assert.Contains(t, line, want.Perm.String())
	}
}

func TestWhatIsNoLineOfMaps(t *testing.T) {
	for _, line := range []string{"", " ", "1000", "1000-", "-2000 rw-p 0 0:0 0", "1000-2000",
		"1000-2000 rw-p", "1000-2000 rwp 0 0:0 0",
		"1000-2000 rw-x 0 0:0 0", "2000-1000 rw-p 0 0:0 0", "1000-1000 rw-p 0 0:0 0",
		"1000-2000 rw-p 0 0 0", "1000-2000 rw-p 0 0:0 a",
		"1000-2000  rw-p 0 0:0 0", "+1000-2000 rw-p 0 0:0 0", "1000-11112222333344445 rw-p 0 0:0 0",
		"1000-2000 rw-p 0 100000000:0 0"} {
		vmas, err := parseAll([]byte(line + "\n"))
		assert.ErrorContains(t, err, fmt.Sprintf("unexpected line %q", line))
		assert.Empty(t, vmas)
	}
}

func TestReadFindsWhatIsMapped(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a  name with spaces\nand a newline ")
	require.NoError(t, os.WriteFile(name, make([]byte, 3*os.Getpagesize()), 0o600))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	page := os.Getpagesize()
	b, err := unix.Mmap(int(f.Fd()), int64(page), 2*page, unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	defer unix.Munmap(b)

	addr := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	for _, pid := range []int{0, os.Getpid()} {
		vmas, err := Read(pid)
		require.NoError(t, err)
		i := slices.IndexFunc(vmas, func(v VMA) bool { return v.Start == addr })
		require.NotEqual(t, -1, i)
		var st unix.Stat_t
		require.NoError(t, unix.Fstat(int(f.Fd()), &st))
		v := vmas[i]
		assert.Equal(t, uintptr(2*page), v.Size())
		assert.Equal(t, Readable|Shared, v.Perm)
		assert.Equal(t, uint64(page), v.Offset)
		assert.Equal(t, st.Ino, v.Inode)
		assert.Equal(t, strings.ReplaceAll(name, "\n", "\\012"), v.Name)
	}
}

func TestSmapsTellWhatIsTaken(t *testing.T) {
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, 5*page, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	defer unix.Munmap(b)
	require.NoError(t, unix.Madvise(b, unix.MADV_DONTDUMP))
	require.NoError(t, unix.Madvise(b, unix.MADV_NOHUGEPAGE))
	b[0], b[2*page] = 1, 1

	addr := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	found := 0
	for s, err := range Smaps(0) {
		require.NoError(t, err)
		if s.Start <= addr && addr < s.End {
			found++
			assert.Equal(t, uint64(2*page), s.Rss)
			assert.Equal(t, uint64(2*page), s.PrivateDirty)
			assert.Equal(t, uint64(2*page), s.Anonymous)
			assert.True(t, s.HasFlag("dd"))
			assert.False(t, s.HasFlag("lo"))
		}
	}
	assert.Equal(t, 1, found)

	total, err := Rollup(0)
	require.NoError(t, err)
	assert.Greater(t, total.Rss, uint64(2*page))
	assert.GreaterOrEqual(t, total.Rss, total.PrivateDirty)
	summed, err := sumSmaps(os.Getpid())
	require.NoError(t, err)
	assert.InEpsilon(t, total.Rss, summed.Rss, 0.5)
}

func TestAnIterationCanEnd(t *testing.T) {
	n := 0
	for range All(0) {
		n++
		break
	}
	for range Smaps(0) {
		n++
		break
	}
	assert.Equal(t, 2, n)
}

func TestAProcessThatEndedHasNoMemory(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	require.NoError(t, cmd.Start())
	// Ended, but not reaped.
	require.NoError(t,
		unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil))
	_, err := Rollup(cmd.Process.Pid)
	assert.ErrorIs(t, err, unix.ESRCH)
	vmas, err := Read(cmd.Process.Pid)
	if err != nil {
		assert.ErrorIs(t, err, unix.ESRCH)
	}
	assert.Empty(t, vmas)
	require.NoError(t, cmd.Wait())
	_, err = Rollup(cmd.Process.Pid)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestWhatIsNoSmaps(t *testing.T) {
	head := "1000-2000 rw-p 00000000 00:00 0 \n"
	for _, lines := range []string{"Rss: 1 kB\n", head + "Rss: 1\n", head + "Rss: -1 kB\n",
		head + "Swap: 99999999999999999 MB\n",
		head + "Pss: 18014398509481984 kB\n", head + "junk\n"} {
		_, err := parseAllSmaps([]byte(lines))
		assert.Error(t, err, lines)
	}
	smaps, err := parseAllSmaps([]byte(head +
		"Rss:      18014398509481983 kB\nUnknown: x\nTHPeligible: 0\nVmFlags: rd wr dd \n" + head))
	require.NoError(t, err)
	require.Len(t, smaps, 2)
	assert.Equal(t, uint64(math.MaxUint64)>>10<<10, smaps[0].Rss)
	assert.True(t, smaps[0].HasFlag("dd"))
	assert.Zero(t, smaps[1].Usage)
	assert.Empty(t, smaps[1].Flags)
}

// FuzzVMA has an area printed as the kernel does it, and parsed.
func FuzzVMA(f *testing.F) {
	f.Add(uint32(0x400000), uint32(0x8a000), uint8(5), uint64(0), uint32(0xfd), uint32(3),
		uint64(960637), "/bin/bash")
	f.Add(uint32(1), uint32(1), uint8(15), uint64(math.MaxUint64), uint32(math.MaxUint32),
		uint32(0), uint64(0), "")
	f.Add(uint32(4096), uint32(4096), uint8(0), uint64(4096), uint32(0), uint32(1), uint64(7),
		"/memfd:a  b (deleted) ")
	f.Fuzz(func(t *testing.T, start, size uint32, perm uint8, offset uint64, major, minor uint32,
		inode uint64, name string) {
		if start > math.MaxInt32 || size == 0 || size > math.MaxInt32 ||
			strings.HasPrefix(name, " ") || strings.Contains(name, "\n") {
			t.Skip("the kernel prints no such line")
		}
		want := VMA{uintptr(start), uintptr(start + size), Perm(perm & 15), offset, major, minor,
			inode, name}
		line := fmt.Sprintf("%08x-%08x %v %08x %02x:%02x %d ", want.Start, want.End, want.Perm,
			offset, major, minor, inode)
		if name != "" {
			line = fmt.Sprintf("%-73s%s", line, name)
		}
		vmas, err := parseAll([]byte(line + "\n"))
		require.NoError(t, err)
		assert.Equal(t, []VMA{want}, vmas)
		smaps, err := parseAllSmaps([]byte(line + "\nRss:                   4 kB\n"))
		require.NoError(t, err)
		assert.Equal(t, []Smap{{VMA: want, Usage: Usage{Rss: 4096}}}, smaps)
	})
}

// FuzzFiles has anything at all parsed: what comes of it is an error, or areas
// that are some.
func FuzzFiles(f *testing.F) {
	for _, file := range []string{"maps", "smaps"} {
		b, err := os.ReadFile("/proc/self/" + file)
		require.NoError(f, err)
		f.Add(b[:min(len(b), 2000)])
	}
	f.Add([]byte("1000-2000 rw-p 0 0:0 0\nRss: 1 kB\n"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		vmas, _ := parseAll(b)
		for _, v := range vmas {
			assert.Less(t, v.Start, v.End)
			assert.NotContains(t, v.Name, "\n")
		}
		_, _ = parseAllSmaps(b)
	})
}
