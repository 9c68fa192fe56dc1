//go:build linux

package elfsym

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// sample returns an ELF file with two functions, and a section header table
// that says what the test wants.
func sample(t testing.TB, fileType elf.Type, symbolsSize uint64) []byte {
	t.Helper()
	const names, symbols = 512, 1024
	var b bytes.Buffer
	var h elf.Header64
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	h.Type, h.Machine, h.Version = uint16(fileType), uint16(elf.EM_X86_64), 1
	h.Shoff, h.Ehsize, h.Shentsize, h.Shnum, h.Shstrndx = 64, 64, 64, 3, 2
	put := func(v any) { require.NoError(t, binary.Write(&b, binary.LittleEndian, v)) }
	put(h)
	put([]elf.Section64{{},
		{Type: uint32(elf.SHT_SYMTAB), Off: symbols, Size: symbolsSize, Link: 2,
			Entsize: elf.Sym64Size},
		{Type: uint32(elf.SHT_STRTAB), Off: names, Size: 16}})
	b.Write(make([]byte, names-b.Len()))
	b.WriteString("\x00first\x00second\x00")
	b.Write(make([]byte, symbols-b.Len()))
	function := uint8(elf.STT_FUNC)
	put([]elf.Sym64{{}, {Name: 7, Info: function, Shndx: 1, Value: 0x200, Size: 0x10},
		{Name: 1, Info: function, Shndx: 1, Value: 0x100, Size: 0x80}})
	return b.Bytes()
}

func TestFindsTheFunctionOfAnInstruction(t *testing.T) {
	for fileType, base := range map[elf.Type]uint64{elf.ET_EXEC: 0, elf.ET_DYN: 0x7000_0000} {
		table, err := Read(bytes.NewReader(sample(t, fileType, 3*elf.Sym64Size)))
		require.NoError(t, err)
		for pc, want := range map[uint64]string{0: "", 0xff: "", 0x100: "first", 0x17f: "first",
			0x180: "", 0x200: "second", 0x20f: "second", 0x210: "", 1 << 63: ""} {
			name, start := table.Find(pc+base, 0x7000_0000)
			assert.Equal(t, want, name, "%#x", pc)
			if want != "" {
				assert.Equal(t, base, start&^0xfff, "%#x", pc)
			}
		}
	}
	name, _ := (*Table)(nil).Find(1, 0)
	assert.Empty(t, name)
}

// The address of a function of Thumb instructions is odd, and its instructions' addresses are even.
func TestFindsTheFunctionOfAThumbInstruction(t *testing.T) {
	arm := sample(t, elf.ET_EXEC, 3*elf.Sym64Size)
	const machine, second = 18, 1024 + elf.Sym64Size + 8 // e_machine, and st_value of the second symbol
	binary.LittleEndian.PutUint16(arm[machine:], uint16(elf.EM_ARM))
	arm[second] |= 1
	table, err := Read(bytes.NewReader(arm))
	require.NoError(t, err)
	for pc, want := range map[uint64]string{0x1fe: "", 0x200: "second", 0x20e: "second", 0x210: ""} {
		name, start := table.Find(pc, 0)
		assert.Equal(t, want, name, "%#x", pc)
		if want != "" {
			assert.EqualValues(t, 0x200, start)
		}
	}
}

func TestSelfHasATable(t *testing.T) {
	table, err := Self()
	require.NoError(t, err)
	assert.NotNil(t, table)
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	_, err := Open(fifo) // and does not wait for a writer
	assert.ErrorContains(t, err, "not a regular file")
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("/proc/self/exe", link))
	_, err = Open(link)
	assert.ErrorIs(t, err, unix.ELOOP)
	_, err = Open(dir)
	assert.Error(t, err)
	_, err = Open(filepath.Join(dir, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// A symbol table that is a hole of half a GiB costs no memory.
func TestLargeTablesAreNotRead(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "elf"))
	require.NoError(t, err)
	defer f.Close()
	const size = 512 << 20 / elf.Sym64Size * elf.Sym64Size
	_, err = f.Write(sample(t, elf.ET_EXEC, size))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size+4096))
	table, err := Open(f.Name())
	assert.ErrorIs(t, err, errTooLarge)
	assert.Nil(t, table)
}

func FuzzRead(f *testing.F) {
	f.Add(sample(f, elf.ET_EXEC, 3*elf.Sym64Size))
	f.Add(sample(f, elf.ET_DYN, 1<<40))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, pc := range []uint64{0, 0x100, 1 << 63, ^uint64(0)} {
			name, start := table.Find(pc, 0x1000)
			if name != "" && pc-start > 1<<62 && table.relocated {
				t.Fatal("found behind its end")
			}
		}
	})
}
