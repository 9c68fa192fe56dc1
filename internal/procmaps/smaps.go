//go:build linux

package procmaps

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Usage says what memory takes of the machine, in bytes. A value that the
// kernel does not report is 0. See proc_pid_smaps(5).
type Usage struct {
	Rss            uint64 // in memory; pages of hugetlbfs are not counted
	Pss            uint64 // in memory, each page divided by the number of processes that map it
	SharedClean    uint64
	SharedDirty    uint64
	PrivateClean   uint64
	PrivateDirty   uint64
	Anonymous      uint64
	AnonHugePages  uint64
	ShmemPmdMapped uint64
	FilePmdMapped  uint64
	SharedHugetlb  uint64
	PrivateHugetlb uint64
	Swap           uint64
	Locked         uint64
}

// field returns the field for a line that begins with name, or nil.
func (u *Usage) field(name string) *uint64 {
	switch name {
	case "Rss:":
		return &u.Rss
	case "Pss:":
		return &u.Pss
	case "Shared_Clean:":
		return &u.SharedClean
	case "Shared_Dirty:":
		return &u.SharedDirty
	case "Private_Clean:":
		return &u.PrivateClean
	case "Private_Dirty:":
		return &u.PrivateDirty
	case "Anonymous:":
		return &u.Anonymous
	case "AnonHugePages:":
		return &u.AnonHugePages
	case "ShmemPmdMapped:":
		return &u.ShmemPmdMapped
	case "FilePmdMapped:":
		return &u.FilePmdMapped
	case "Shared_Hugetlb:":
		return &u.SharedHugetlb
	case "Private_Hugetlb:":
		return &u.PrivateHugetlb
	case "Swap:":
		return &u.Swap
	case "Locked:":
		return &u.Locked
	}
	return nil
}

// Add adds the usage of other memory.
func (u *Usage) Add(other *Usage) {
	u.Rss += other.Rss
	u.Pss += other.Pss
	u.SharedClean += other.SharedClean
	u.SharedDirty += other.SharedDirty
	u.PrivateClean += other.PrivateClean
	u.PrivateDirty += other.PrivateDirty
	u.Anonymous += other.Anonymous
	u.AnonHugePages += other.AnonHugePages
	u.ShmemPmdMapped += other.ShmemPmdMapped
	u.FilePmdMapped += other.FilePmdMapped
	u.SharedHugetlb += other.SharedHugetlb
	u.PrivateHugetlb += other.PrivateHugetlb
	u.Swap += other.Swap
	u.Locked += other.Locked
}

// Smap is an area with its usage.
type Smap struct {
	VMA
	Usage
	Flags string // the value of VmFlags: flags of two letters, separated by spaces
}

// HasFlag reports whether the area has a flag of VmFlags, "dd" for
// MADV_DONTDUMP for example.
func (s *Smap) HasFlag(flag string) bool {
	for f := range strings.FieldsSeq(s.Flags) {
		if f == flag {
			return true
		}
	}
	return false
}

// Smaps returns the areas of a process with their usage. A pid of 0 is the
// calling process. To answer, the kernel walks the page tables of each area.
// The doc of [All] says what happens when the process changes its memory, and
// after an error.
func Smaps(pid int) iter.Seq2[Smap, error] {
	return func(yield func(Smap, error) bool) {
		readFile(path(pid, "smaps"), func(r io.Reader) error { return parseSmaps(r, yield) },
			func(err error) { yield(Smap{}, err) })
	}
}

func parseSmaps(r io.Reader, yield func(Smap, error) bool) error {
	var s Smap
	begun, stopped := false, false
	err := eachLine(r, func(line []byte) (bool, error) {
		name, value, _ := bytes.Cut(line, []byte(" "))
		if bytes.HasSuffix(name, []byte(":")) {
			if !begun {
				return false, fmt.Errorf("no area before line %q", line)
			}
			return true, s.parseField(string(name), value)
		}
		if begun && !yield(s, nil) {
			stopped = true
			return false, nil
		}
		begun = true
		s.Usage, s.Flags = Usage{}, ""
		return true, s.VMA.parse(line)
	})
	if err == nil && begun && !stopped {
		yield(s, nil)
	}
	return err
}

func (s *Smap) parseField(name string, value []byte) error {
	if name == "VmFlags:" {
		s.Flags = string(value)
		return nil
	}
	return s.Usage.parseField(name, value)
}

func (u *Usage) parseField(name string, value []byte) error {
	field := u.field(name)
	if field == nil {
		return nil
	}
	digits, isKiB := bytes.CutSuffix(bytes.TrimLeft(value, " "), []byte(" kB"))
	kib, err := parseUint(digits, 10, 64)
	if err != nil || !isKiB || kib > math.MaxUint64>>10 {
		return fmt.Errorf("unexpected line %q", name+" "+string(value))
	}
	*field = kib << 10
	return nil
}

// Rollup returns the usage of all memory of a process. A pid of 0 is the
// calling process. If the process has ended, the error wraps [unix.ESRCH], even
// if the process is not reaped. If there is no smaps_rollup, Rollup adds up
// smaps.
func Rollup(pid int) (total Usage, err error) {
	seen := false
	readFile(path(pid, "smaps_rollup"), func(r io.Reader) error {
		return eachLine(r, func(line []byte) (bool, error) {
			seen = true
			name, value, _ := bytes.Cut(line, []byte(" "))
			return true, total.parseField(string(name), value)
		})
	}, func(e error) { err = e })
	if pathErr, ok := err.(*os.PathError); ok && pathErr.Op == "open" && os.IsNotExist(err) {
		return sumSmaps(pid)
	}
	if err == nil && !seen {
		err = &fs.PathError{Op: "read", Path: path(pid, "smaps_rollup"), Err: unix.ESRCH}
	}
	return total, err
}

func sumSmaps(pid int) (total Usage, err error) {
	seen := false
	for s, err := range Smaps(pid) {
		if err != nil {
			return Usage{}, err
		}
		seen = true
		total.Add(&s.Usage)
	}
	if !seen {
		return Usage{}, &fs.PathError{Op: "read", Path: path(pid, "smaps"), Err: unix.ESRCH}
	}
	return total, nil
}
