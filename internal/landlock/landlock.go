//go:build linux

// Package landlock makes rulesets of landlock(7), by which a process restricts
// itself.
package landlock

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
)

// Access is a set of LANDLOCK_ACCESS_FS_*.
type Access uint64

// What a process may do below a path.
const (
	Read    Access = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	Execute Access = unix.LANDLOCK_ACCESS_FS_EXECUTE
	Write   Access = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_REFER
)

const (
	// ofFiles are the rights that a rule for a file that is no folder can have.
	ofFiles Access = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	firstVersion Access = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1
)

// Rule allows what Access says for a file, or for a folder and all that is below it.
type Rule struct {
	Path   string
	Access Access
}

// Version returns the version of the kernel's landlock. The error is ENOSYS or EOPNOTSUPP if the
// kernel has none, and usually EPERM if a container denies it.
func Version() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0,
		unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	return int(version), nil
}

// attributes returns all that a version of landlock can deny.
func attributes(version int) unix.LandlockRulesetAttr {
	attr := unix.LandlockRulesetAttr{Access_fs: uint64(firstVersion)}
	if version >= 2 { // before, no file moves to another folder
		attr.Access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		attr.Access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		attr.Access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 5 {
		attr.Access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr
}

// Ruleset returns a descriptor of a ruleset that denies all that a version of landlock can deny,
// except what the rules allow. A process restricts itself by the descriptor:
// landlock_restrict_self(2).
func Ruleset(version int, rules []Rule) (fd int, err error) {
	attr := attributes(version)
	size := unsafe.Offsetof(attr.Access_net)
	if version >= 4 {
		size = unsafe.Offsetof(attr.Scoped)
	}
	if version >= 6 {
		size = unsafe.Sizeof(attr)
	}
	fd, err = highfd.Open(func() (int, error) {
		r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET,
			uintptr(unsafe.Pointer(&attr)), size, 0)
		if errno != 0 {
			return -1, errno
		}
		return int(r), nil
	})
	if err != nil {
		return -1, os.NewSyscallError("landlock_create_ruleset", err)
	}
	for _, rule := range rules {
		if err := rule.addTo(fd, Access(attr.Access_fs)); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("%s: %w", rule.Path, err)
		}
	}
	return fd, nil
}

// addTo adds a rule to a ruleset that knows these rights.
func (rule Rule) addTo(ruleset int, known Access) error {
	fd, err := highfd.Open(func() (int, error) {
		return unix.Open(rule.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	access := rule.Access & known
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFiles
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: uint64(access), Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset),
		unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_add_rule", errno)
	}
	return nil
}
