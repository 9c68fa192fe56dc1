package live

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/procmaps"
)

// descriptors returns what a child would share with this process.
func (in *inspection) descriptors() (found []Finding) {
	// A child has a poller of its own, and makes the standard files anew.
	skip := append(runtimePoller(), 0, 1, 2)
	for _, fd := range openFDs() {
		if slices.Contains(skip, fd) {
			continue
		}
		if kind, what := describe(fd); kind != 0 {
			found = append(found, Finding{Kind: kind, What: what, FD: fd, Waiting: in.waiting(fd)})
		}
	}
	return found
}

// describe returns a Kind of 0 for what a child can use as its parent does.
func describe(fd int) (Kind, string) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, "" // closed meanwhile
	}
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		link = "unknown (no /proc)"
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return describeSocket(fd)
	case unix.S_IFIFO:
		return Pipe, link
	case unix.S_IFCHR:
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			return Terminal, link
		}
	case unix.S_IFREG:
		if how := sharedState(fd); how != "" {
			return OpenFile, link + how
		}
	case 0: // an anonymous inode
		return Kernel, strings.TrimPrefix(link, "anon_inode:")
	}
	return 0, ""
}

// sharedState says what of an open file parent and child would share, "" if that
// is nothing but the offset of a file that is read.
func sharedState(fd int) string {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_PATH != 0 {
		return ""
	}
	how := ""
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		how = ", open for writing"
	}
	info, _ := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if strings.Contains(string(info), " FLOCK ") {
		how += ", locked by flock(2)"
	}
	return how
}

func describeSocket(fd int) (Kind, string) {
	domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	listens, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	what := network(domain, kind)
	if local, err := unix.Getsockname(fd); err == nil {
		what += address(local)
	}
	if peer, err := unix.Getpeername(fd); err == nil {
		what += " to" + address(peer)
	}
	if listens != 0 {
		return Listener, what
	}
	return Socket, what
}

func network(domain, kind int) string {
	switch {
	case domain == unix.AF_UNIX:
		return "unix"
	case domain != unix.AF_INET && domain != unix.AF_INET6:
		return fmt.Sprintf("family %d", domain)
	case kind == unix.SOCK_STREAM:
		return "tcp"
	case kind == unix.SOCK_DGRAM:
		return "udp"
	}
	return "ip"
}

// address begins with a blank, if there is one.
func address(a unix.Sockaddr) string {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return " " + netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return " " + netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrUnix:
		if a.Name != "" {
			return " " + a.Name
		}
		return " without a name"
	}
	return ""
}

// sharedMemory returns memory that others can write to, or that the child would
// write to for others.
func sharedMemory() (found []Finding) {
	for v, err := range procmaps.All(0) {
		if err != nil {
			break
		}
		if v.Perm&procmaps.Shared != 0 && v.Perm&procmaps.Writable != 0 {
			what := fmt.Sprintf("%d bytes at %#x", v.Size(), v.Start)
			if v.Name != "" {
				what += " of " + v.Name
			}
			found = append(found, Finding{Kind: SharedMemory, What: what, FD: -1})
		}
	}
	return found
}
