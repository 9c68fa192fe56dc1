package shm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/hugepage"
	"forkshm.example/shm/internal/landlock"
	"forkshm.example/shm/internal/seccomp"
)

// sandboxOf is a Sandbox that is prepared for one fork.
type sandboxOf struct {
	args     *sandboxArgs // nil if there is no Sandbox
	landlock int          // the version of the ruleset

	// opensFiles is whether the filter may let the child open files. Such a child must not have a
	// descriptor of its mapping's object: by /proc/self/fd it could open the object for writing,
	// and landlock(7) does not restrict files without a name.
	opensFiles bool
}

// prepare prepares the sandbox for a child of a mapping. The caller closes the result. s may be
// nil.
func (s *Sandbox) prepare(mem *memory) (box sandboxOf, err error) {
	if s == nil {
		return box, nil
	}
	box.args = &sandboxArgs{landlockFD: -1, readOnlyFD: -1}
	box.opensFiles = s.neededLandlock() > 0
	if s.Optional {
		box.args.optional = 1
	}
	steps := []func(*sandboxOf, *memory) error{s.prepareFilter, s.preparePaths, s.prepareRanges}
	for _, step := range steps {
		if err := step(&box, mem); err != nil {
			box.close()
			return sandboxOf{}, fmt.Errorf("ForkConfig.Sandbox: %w", err)
		}
	}
	return box, nil
}

// close closes the descriptors of the sandbox.
func (box *sandboxOf) close() {
	for _, fd := range box.fds() {
		_ = unix.Close(int(fd))
	}
}

// fds returns the descriptors of the sandbox, which the child closes itself.
func (box *sandboxOf) fds() (fds []int32) {
	if box.args == nil {
		return nil
	}
	for _, fd := range []int32{box.args.landlockFD, box.args.readOnlyFD} {
		if fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// result returns what holds for a child that has reported holds.
func (box *sandboxOf) result(holds int32) (result Sandboxed) {
	if box.args == nil {
		return result
	}
	if holds&landlockHolds != 0 {
		result.Landlock = box.landlock
	}
	result.Filter = holds&filterHolds != 0
	result.ReadOnly = box.args.readOnlyFD >= 0
	return result
}

// actions are the actions of seccomp(2) for what is denied.
var actions = map[Deny]uint32{
	Report: unix.SECCOMP_RET_TRAP,
	Errno:  unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM),
	Kill:   unix.SECCOMP_RET_KILL_PROCESS,
}

func (s *Sandbox) prepareFilter(box *sandboxOf, _ *memory) error {
	denied, known := actions[s.OnDeny]
	switch {
	case s.Policy != Compute && s.Policy != Custom:
		return fmt.Errorf("Policy is %d, must be Compute or Custom: %w", s.Policy, unix.EINVAL)
	case !known:
		return fmt.Errorf("OnDeny is %d, must be Report, Errno or Kill: %w", s.OnDeny, unix.EINVAL)
	}
	if err := checkPersonality(); err != nil {
		return err
	}
	filter, err := filterOf(seccomp.Policy{
		Arch: runtime.GOARCH, Compute: s.Policy == Compute, Files: s.files(), Allow: s.Allow,
		Denied: denied, NoRemap: len(s.ReadOnly) > 0,
	})
	if errors.Is(err, errors.ErrUnsupported) && s.Optional {
		return nil // a filter of no instructions is refused, and so left out
	}
	if s.OnDeny == Report {
		box.args.report = 1
	}
	box.args.filterLength = uint32(copy(box.args.filter[:], filter.Instructions))
	box.args.selfCount = uint32(copy(box.args.self[:], filter.Self))
	return err
}

// filters caches the filters of policies. To assemble one takes as long as a fork.
var filters struct {
	sync.Mutex
	byPolicy map[string]seccomp.Filter
}

func init() { hook.Locks = append(hook.Locks, &filters.Mutex) }

const maxFilters = 64

// filterOf returns the filter of a policy.
func filterOf(policy seccomp.Policy) (seccomp.Filter, error) {
	key := fmt.Sprint(policy)
	filters.Lock()
	filter, found := filters.byPolicy[key]
	filters.Unlock()
	if found {
		return filter, nil
	}
	filter, err := policy.Filter()
	if err != nil {
		return filter, err
	}
	filters.Lock()
	defer filters.Unlock()
	if filters.byPolicy == nil || len(filters.byPolicy) >= maxFilters {
		filters.byPolicy = map[string]seccomp.Filter{}
	}
	filters.byPolicy[key] = filter
	return filter, nil
}

// checkPersonality returns an error if the kernel makes all memory executable that is readable, as
// it does for old programs.
func checkPersonality() error {
	const query, readImpliesExec = 0xffffffff, 0x400000
	now, _, errno := unix.Syscall(unix.SYS_PERSONALITY, query, 0, 0)
	if errno == 0 && now&readImpliesExec != 0 {
		return fmt.Errorf("this program's readable memory is executable "+
			"(personality(2), READ_IMPLIES_EXEC): %w", errors.ErrUnsupported)
	}
	return nil
}

// files returns what the rules of Paths need.
func (s *Sandbox) files() seccomp.Files {
	files := seccomp.NoFiles
	for _, rule := range s.Paths {
		files = max(files, seccomp.ReadFiles)
		if rule.Access == PathWrite {
			files = seccomp.WriteFiles
		}
	}
	return files
}

// neededLandlock returns the version of landlock that the sandbox needs, or 0 if the filter denies
// all that landlock would. Before version 3, a child can truncate files that it may only read.
func (s *Sandbox) neededLandlock() int {
	switch {
	case s.files() == seccomp.WriteFiles:
		return 3
	case len(s.Paths) > 0 || len(s.Allow) > 0 || s.Policy != Compute:
		return 1
	}
	return 0
}

func (s *Sandbox) preparePaths(box *sandboxOf, _ *memory) error {
	rules := make([]landlock.Rule, len(s.Paths))
	for i, rule := range s.Paths {
		access := landlock.Read
		switch rule.Access {
		case PathRead:
		case PathWrite:
			access |= landlock.Write
		case PathExecute:
			access |= landlock.Execute
		default:
			return fmt.Errorf("Paths[%d].Access is %d, "+
				"must be PathRead, PathWrite or PathExecute: %w", i, rule.Access, unix.EINVAL)
		}
		rules[i] = landlock.Rule{Path: rule.Path, Access: access}
	}
	version, err := landlock.Version()
	if needed := s.neededLandlock(); version < needed && !s.Optional {
		if err == nil {
			err = errors.ErrUnsupported
		}
		return fmt.Errorf("needs version %d of landlock(7), this kernel has %d "+
			"(set Optional to go without): %w", needed, version, err)
	}
	if version == 0 {
		return nil
	}
	fd, err := landlock.Ruleset(version, rules)
	if err != nil {
		return fmt.Errorf("a ruleset of Paths: %w", err)
	}
	box.args.landlockFD, box.landlock = int32(fd), version
	return nil
}

func (s *Sandbox) prepareRanges(box *sandboxOf, mem *memory) error {
	if len(s.ReadOnly) == 0 {
		return nil
	}
	switch {
	case mem.liveChildren == nil: // only a shared memfd counts its children
		return fmt.Errorf("ReadOnly needs a Memfd mapping that is Shared: %w",
			errors.ErrUnsupported)
	case slices.Contains(s.Allow, unix.SYS_MREMAP),
		slices.Contains(s.Allow, unix.SYS_REMAP_FILE_PAGES):
		return fmt.Errorf("ReadOnly is of no use with mremap or remap_file_pages in Allow, as a child "+
			"can map the range anew by them: %w", unix.EINVAL)
	case len(s.ReadOnly) > maxReadOnly:
		return fmt.Errorf("ReadOnly has %d ranges, at most %d are possible: %w",
			len(s.ReadOnly), maxReadOnly, unix.EINVAL)
	}
	for i, r := range s.ReadOnly {
		if err := r.check(mem); err != nil {
			return fmt.Errorf("ReadOnly[%d], %d bytes at offset %d: %w", i, r.Length, r.Offset, err)
		}
		start := uintptr(mem.addr) + uintptr(r.Offset)
		box.args.readOnly[i] = readOnlySpan{start, uintptr(r.Length), int64(r.Offset)}
	}
	fd, err := highfd.Open(func() (int, error) {
		return unix.Open(fmt.Sprintf("/proc/self/fd/%d", mem.fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fmt.Errorf("ReadOnly: the object cannot be opened for reading: %w",
			os.NewSyscallError("open", err))
	}
	box.args.readOnlyFD, box.args.readOnlyCount = int32(fd), uint32(len(s.ReadOnly))
	return nil
}

// check returns an error if the range is no range of whole pages of the mapping.
func (r Range) check(mem *memory) error {
	page := os.Getpagesize()
	if mem.huge == HugeExplicit {
		page = hugepage.Explicit()
	}
	switch {
	case r.Offset < 0 || r.Length <= 0 || r.Offset > mem.length-r.Length:
		return fmt.Errorf("%w of a mapping of %d bytes", ErrRange, mem.length)
	case r.Offset%page != 0 || r.Length%page != 0 && r.Offset+r.Length != mem.length:
		return fmt.Errorf("%w: must be whole pages of %d bytes", ErrAlign, page)
	}
	return nil
}
