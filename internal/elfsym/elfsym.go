//go:build linux

// Package elfsym finds the function that contains an instruction. It reads the
// symbol tables of the instruction's ELF file. See elf(5).
package elfsym

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
)

// MaxRead is the largest number of bytes that are read of a file. Reading a
// file with larger tables is an error.
const MaxRead = 128 << 20

var errTooLarge = fmt.Errorf("the symbol tables are larger than %d bytes", MaxRead)

// Table holds the functions of an ELF file. A nil Table holds none.
type Table struct {
	relocated bool // addresses are relative to the beginning of the file in memory
	functions []function
}

type function struct {
	name        string
	start, size uint64
}

// Open reads the table of a file. The file must be a regular file, and not a
// symbolic link. Open never blocks, not even on a FIFO without a writer.
func Open(path string) (*Table, error) { return open(path, unix.O_NOFOLLOW) }

// Self reads the table of the running program, even if another file has the
// program's path now.
func Self() (*Table, error) { return open("/proc/self/exe", 0) }

func open(path string, flags int) (*Table, error) {
	f, err := highfd.OpenFile(path, unix.O_NONBLOCK|unix.O_NOCTTY|flags)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %v, not a regular file", path, info.Mode().Type())
	}
	return Read(f)
}

// Read reads the table of an ELF file.
func Read(r io.ReaderAt) (*Table, error) {
	f, err := elf.NewFile(&limitedReader{r, MaxRead})
	if err != nil {
		return nil, err
	}
	if err := checkSizes(f.Sections); err != nil {
		return nil, err
	}
	t := &Table{relocated: f.Type == elf.ET_DYN}
	all, err := f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, err
	}
	t.add(all, f.Machine)
	exported, err := f.DynamicSymbols() // a stripped file has these only
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, err
	}
	t.add(exported, f.Machine)
	slices.SortFunc(t.functions, func(a, b function) int { return cmp.Compare(a.start, b.start) })
	return t, nil
}

// checkSizes returns an error if the tables are too large. It reads none of
// them.
func checkSizes(sections []*elf.Section) error {
	left := uint64(MaxRead)
	for _, s := range sections {
		if s.Type != elf.SHT_SYMTAB && s.Type != elf.SHT_DYNSYM && s.Type != elf.SHT_STRTAB {
			continue
		}
		if s.Size > left {
			return errTooLarge
		}
		left -= s.Size
	}
	return nil
}

// add adds the functions among the symbols. On 32-bit ARM the lowest bit of a function's address says
// which instructions it has.
func (t *Table) add(symbols []elf.Symbol, machine elf.Machine) {
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Size > 0 && s.Section != elf.SHN_UNDEF {
			if machine == elf.EM_ARM {
				s.Value &^= 1
			}
			t.functions = append(t.functions, function{s.Name, s.Value, s.Size})
		}
	}
}

// Find returns the name and the address of the function that contains the
// instruction at pc. base is the address of the file's beginning in memory. The
// name is empty if no function contains the instruction.
func (t *Table) Find(pc, base uint64) (name string, start uint64) {
	if t == nil {
		return "", 0
	}
	if !t.relocated {
		base = 0
	}
	at := pc - base
	i, found := slices.BinarySearchFunc(t.functions, at, func(f function, at uint64) int {
		return cmp.Compare(f.start, at)
	})
	if !found {
		i--
	}
	if i < 0 || at-t.functions[i].start >= t.functions[i].size {
		return "", 0
	}
	return t.functions[i].name, t.functions[i].start + base
}

// limitedReader fails once more than left bytes are read.
type limitedReader struct {
	r    io.ReaderAt
	left int64
}

func (l *limitedReader) ReadAt(p []byte, off int64) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, errTooLarge
	}
	return l.r.ReadAt(p, off)
}
