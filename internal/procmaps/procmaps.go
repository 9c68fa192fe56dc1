//go:build linux

// Package procmaps reads the files in which the kernel describes a process's
// memory: /proc/PID/maps, smaps and smaps_rollup. See proc_pid_maps(5) and
// proc_pid_smaps(5).
package procmaps

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"os"
	"strconv"

	"forkshm.example/shm/internal/highfd"
)

// VMA is a virtual memory area: a range of addresses that the kernel manages as
// one. /proc/PID/maps has one line for each.
type VMA struct {
	Start, End   uintptr // End is the first address behind the area
	Perm         Perm
	Offset       uint64 // the place in the file where the area begins, in bytes
	Major, Minor uint32 // the numbers of the file's device
	Inode        uint64 // 0 if no file is mapped

	// Name is the path of the file, or a name like "[stack]", or empty. Name is
	// written as the kernel prints it: a newline in a path is \012, and the
	// path of a removed file ends in " (deleted)".
	Name string
}

// Perm has the permissions of memory, and says whether the memory is shared.
type Perm uint8

const (
	Readable Perm = 1 << iota
	Writable
	Executable
	Shared // MAP_SHARED; MAP_PRIVATE without it
)

// String returns the permissions as the kernel prints them, "rw-p" for example.
func (p Perm) String() string {
	b := []byte("---p")
	for i, c := range []byte("rwxs") {
		if p&(1<<i) != 0 {
			b[i] = c
		}
	}
	return string(b)
}

// Size returns the length of the area in bytes.
func (v *VMA) Size() uintptr { return v.End - v.Start }

// All returns the areas of a process, in ascending order of their addresses. A
// pid of 0 is the calling process. After an error there are no more areas.
//
// The kernel returns a few KiB of lines at a time. If the process changes its
// memory between two reads, an area may be missing, and an area that grew
// downwards may overlap the area before it.
func All(pid int) iter.Seq2[VMA, error] {
	return func(yield func(VMA, error) bool) {
		readFile(path(pid, "maps"), func(r io.Reader) error { return parse(r, yield) },
			func(err error) { yield(VMA{}, err) })
	}
}

// Read returns the areas of a process as a slice. See [All].
func Read(pid int) ([]VMA, error) {
	var vmas []VMA
	for v, err := range All(pid) {
		if err != nil {
			return nil, err
		}
		vmas = append(vmas, v)
	}
	return vmas, nil
}

func path(pid int, file string) string {
	if pid == 0 {
		return "/proc/self/" + file
	}
	return fmt.Sprintf("/proc/%d/%s", pid, file)
}

// readFile calls parse with the opened file. After an error, readFile calls
// failed with an error that names the file.
func readFile(path string, parse func(io.Reader) error, failed func(error)) {
	f, err := highfd.OpenFile(path, 0)
	if err != nil {
		failed(err)
		return
	}
	defer f.Close()
	if err := parse(f); err != nil {
		if _, ok := err.(*os.PathError); !ok {
			err = fmt.Errorf("%s: %w", path, err)
		}
		failed(err)
	}
}

// parse calls yield for each line of a maps file, until yield returns false.
func parse(r io.Reader, yield func(VMA, error) bool) error {
	var v VMA
	return eachLine(r, func(line []byte) (bool, error) {
		if err := v.parse(line); err != nil {
			return false, err
		}
		return yield(v, nil), nil
	})
}

// eachLine calls do with each line, without the newline, until do returns false
// or an error. The line is valid until do returns.
func eachLine(r io.Reader, do func(line []byte) (bool, error)) error {
	lines := bufio.NewReaderSize(r, 1<<16)
	var long []byte // the beginning of a line that is longer than the buffer
	for {
		line, err := lines.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			long = append(long, line...)
			continue
		}
		if len(long) > 0 {
			line = append(long, line...)
			long = long[:0]
		}
		if err != nil && err != io.EOF {
			return err
		}
		if len(line) > 0 {
			if goOn, err := do(bytes.TrimSuffix(line, []byte("\n"))); err != nil || !goOn {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// parse sets v from a line of a maps file. A line has the form
//
//	start-end perm offset major:minor inode   name
func (v *VMA) parse(line []byte) error {
	f := fields{rest: line, ok: true}
	start := f.number('-', 16, bits.UintSize)
	end := f.number(' ', 16, bits.UintSize)
	perm := f.perm()
	offset := f.number(' ', 16, 64)
	major := f.number(':', 16, 32)
	minor := f.number(' ', 16, 32)
	inode := f.number(' ', 10, 64)
	if !f.ok || start >= end {
		return fmt.Errorf("unexpected line %q", line)
	}
	// Adjacent lines often have the same name. Such lines share one string.
	if name := bytes.TrimLeft(f.rest, " "); string(name) != v.Name {
		v.Name = string(name)
	}
	v.Start, v.End, v.Perm, v.Offset = uintptr(start), uintptr(end), perm, offset
	v.Major, v.Minor, v.Inode = uint32(major), uint32(minor), inode
	return nil
}

// fields cuts a line into fields. After a field that is malformed, ok is false.
type fields struct {
	rest []byte
	ok   bool
}

// field returns the bytes before the next separator. At the end of the line, a
// space may be missing.
func (f *fields) field(separator byte) []byte {
	field, rest, found := bytes.Cut(f.rest, []byte{separator})
	f.ok = f.ok && (found || separator == ' ')
	f.rest = rest
	return field
}

func (f *fields) number(separator byte, base, bits int) uint64 {
	n, err := parseUint(f.field(separator), base, bits)
	f.ok = f.ok && err == nil
	return n
}

// parseUint is strconv.ParseUint, but refuses a plus sign.
func parseUint(digits []byte, base, bits int) (uint64, error) {
	if len(digits) > 0 && digits[0] == '+' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(string(digits), base, bits)
}

func (f *fields) perm() (p Perm) {
	field := f.field(' ')
	if len(field) != 4 {
		f.ok = false
		return 0
	}
	for i, c := range []byte("rwxs") {
		switch field[i] {
		case c:
			p |= 1 << i
		case "---p"[i]:
		default:
			f.ok = false
		}
	}
	return p
}
