package parity

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"forkshm.example/shm/internal/strace"
)

// states holds what each process of a trace has.
type states struct {
	lengths   []string
	pids      map[string]string // names of the processes, by pid
	byProcess map[string]*state
}

func newStates(pids map[string]string, lengths []string) *states {
	s := &states{lengths: lengths, pids: map[string]string{}, byProcess: map[string]*state{}}
	for process, pid := range pids {
		s.pids[pid] = "PID(" + process + ")"
	}
	return s
}

// state is what a process has that its calls are related to.
type state struct {
	*states
	process string
	regions []region
	fds     map[string]string // names of descriptors
	mapped  int               // how many regions it has made
	opened  int               // how many descriptors
}

type region struct {
	start, length uint64
	name          string
}

// of returns the state of a process. A new process begins with what its parent
// has.
func (s *states) of(process string) *state {
	if st := s.byProcess[process]; st != nil {
		return st
	}
	st := &state{states: s, process: process, fds: map[string]string{}}
	if dot := strings.LastIndex(process, "."); dot >= 0 {
		parent := s.of(process[:dot])
		st.regions, st.fds = slices.Clone(parent.regions), maps.Clone(parent.fds)
	}
	s.byProcess[process] = st
	return st
}

var (
	memoryCalls = []string{"mremap", "munmap", "mprotect", "madvise", "mlock", "mlock2", "munlock",
		"msync", "mincore"}
	fdCalls  = []string{"close", "ftruncate", "fallocate", "fcntl", "fstat"}
	pidCalls = []string{"wait4", "waitid", "kill", "tgkill", "getpid", "getppid", "pidfd_open",
		"clone", "clone3", "fork", "vfork"}

	address  = regexp.MustCompile(`0x[0-9a-f]{6,}`)
	argument = regexp.MustCompile(`[^,()]+`)
	digits   = regexp.MustCompile(`\b\d+\b`)
)

// follow returns a call with names for what differs from run to run, and
// whether the call counts. It keeps track of what the call changes.
func (s *state) follow(c strace.Call) (text string, counts bool) {
	args := argument.FindAllString(strings.TrimPrefix(c.Text, c.Name), -1)
	for i := range args {
		args[i] = strings.TrimSpace(args[i])
	}
	if len(args) < 2 {
		args = append(args, "", "")
	}
	switch {
	case c.Name == "mmap":
		counts = s.isOurs(args)
		if counts {
			s.addRegion(c.Result, args[1])
		}
	case slices.Contains(memoryCalls, c.Name):
		counts = s.regionAt(args[0]) != nil
	case c.Name == "openat" || c.Name == "open" || c.Name == "memfd_create":
		counts = c.Name == "memfd_create" || strings.Contains(c.Text, `"/dev/zero"`)
		if counts && isNumber(c.Result) {
			s.opened++
			s.fds[c.Result] = fmt.Sprintf("FD(%s:%d)", s.process, s.opened)
		}
	case slices.Contains(fdCalls, c.Name):
		counts = s.fds[args[0]] != ""
	default:
		counts = !c.MakesThread()
	}
	if !counts {
		return "", false
	}
	if c.Name == "mremap" && len(args) > 2 {
		s.resizeRegion(args[0], c.Result, args[2])
	}
	text = s.relative(c, args)
	s.forget(c, args)
	return text, true
}

// isOurs says whether an mmap is the program's own: of shared memory that has
// no file, or of one of the lengths.
func (s *state) isOurs(args []string) bool {
	if len(args) < 5 {
		return false
	}
	if slices.Contains(s.lengths, args[1]) {
		return true
	}
	return strings.Contains(args[3], "MAP_SHARED") && (args[4] == "-1" || s.fds[args[4]] != "")
}

func (s *state) addRegion(result, length string) {
	start, err := strconv.ParseUint(result, 0, 64)
	n := number(length)
	if err != nil || n == 0 || s.regionAt(result) != nil {
		return
	}
	s.mapped++
	s.regions = append(s.regions,
		region{start, n, fmt.Sprintf("REGION(%s:%d)", s.process, s.mapped)})
}

// resizeRegion follows an mremap, which may have moved the region.
func (s *state) resizeRegion(old, result, length string) {
	if r := s.regionAt(old); old == result {
		r.length = max(number(length), 1)
		return
	}
	s.addRegion(result, length)
}

// regionAt returns the region that an address is in, or nil.
func (s *state) regionAt(addr string) *region {
	at, err := strconv.ParseUint(addr, 0, 64)
	if err != nil {
		return nil
	}
	for i, r := range s.regions {
		if r.start <= at && at-r.start < max(r.length, 1) {
			return &s.regions[i]
		}
	}
	return nil
}

// forget drops what a call gives up.
func (s *state) forget(c strace.Call, args []string) {
	if c.Result != "0" && c.Name != "mremap" {
		return
	}
	switch c.Name {
	case "close":
		delete(s.fds, args[0])
	case "munmap", "mremap":
		r := s.regionAt(args[0])
		if r != nil && !strings.HasPrefix(c.Result, "-1") && number(args[1]) >= r.length &&
			c.Result != args[0] {
			name := r.name
			s.regions = slices.DeleteFunc(s.regions, func(r region) bool { return r.name == name })
		}
	}
}

// relative returns a call and its result with names for addresses, descriptors
// and process ids.
func (s *state) relative(c strace.Call, args []string) string {
	text := address.ReplaceAllStringFunc(c.Text+" = "+c.Result, func(addr string) string {
		r := s.regionAt(addr)
		if r == nil {
			return "ADDR"
		}
		if off := number(addr) - r.start; off != 0 {
			return fmt.Sprintf("%s+%#x", r.name, off)
		}
		return r.name
	})
	switch {
	case slices.Contains(pidCalls, c.Name):
		text = digits.ReplaceAllStringFunc(text, func(n string) string {
			if name := s.pids[n]; name != "" {
				return name
			}
			return n
		})
	case c.Name == "mmap" && s.fds[args[4]] != "":
		text = strings.Replace(text, ", "+args[4]+",", ", "+s.fds[args[4]]+",", 1)
	case slices.Contains(fdCalls, c.Name):
		text = strings.Replace(text, "("+args[0], "("+s.fds[args[0]], 1)
	case s.fds[c.Result] != "":
		text = strings.TrimSuffix(text, c.Result) + s.fds[c.Result]
	}
	return text
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 0, 64)
	return n
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
