package parity

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// SameMaps runs both programs, and reports an error if their memory is not
// mapped alike. It compares each process of one program with the same process
// of the other, when a process has just forked and when a process ends. It
// compares the length, protection, offset and name of each region, as
// /proc/PID/maps has them, but not the address.
//
// A region counts if it is shared and has no file, or if it has one of the
// [Lengths]. If neither program has a region that counts, that is an error,
// too. See proc_pid_maps(5), ptrace(2).
func SameMaps(t T, c, g Program, opts ...Option) {
	t.Helper()
	o, err := newOptions(opts)
	if err != nil {
		t.Fatalf("parity: standard input: %v", err)
	}
	inC, err := o.maps(t.TempDir(), c)
	if err != nil {
		t.Fatalf("parity: trace %s: %v", c.Path, err)
	}
	inGo, err := o.maps(t.TempDir(), g)
	if err != nil {
		t.Fatalf("parity: trace %s: %v", g.Path, err)
	}
	if !slices.ContainsFunc(append(inC, inGo...), isRegion) {
		t.Errorf("parity: neither program has a region that counts when it forks or ends: name " +
			"private memory by Lengths")
	}
	if d := diff(inC, inGo); d != "" {
		t.Errorf("parity: the memory maps differ (- %s, + %s):\n%s", c.Name, g.Name, d)
	}
}

func isRegion(line string) bool { return strings.HasPrefix(line, "\t") }

// maps returns the regions that count, process by process.
func (o *options) maps(dir string, p Program) ([]string, error) {
	input := dir + "/stdin"
	if err := os.WriteFile(input, o.stdin, 0o600); err != nil {
		return nil, err
	}
	stdin, err := os.Open(input)
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()

	// A tracee takes orders from the thread that traces it alone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	process, err := os.StartProcess(p.Path, append([]string{p.Path}, o.args...), &os.ProcAttr{
		Env:   append(os.Environ(), o.env...),
		Files: []*os.File{stdin, null, null},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return nil, err
	}
	defer process.Release()
	tr := &tracer{options: o, tracees: map[int]*tracee{process.Pid: {process: "0"}},
		lines: map[string][]string{}}
	if err := tr.run(); err != nil {
		_ = process.Kill()
		return nil, err
	}
	return tr.report(), nil
}

// tracer follows a program and the processes that it forks.
type tracer struct {
	*options
	tracees map[int]*tracee     // by thread id
	lines   map[string][]string // by process and moment
}

type tracee struct {
	process string // its name, as that of processes
	begun   bool   // its first stop has been seen
	forks   int    // of the process, kept by its first thread
}

const (
	waitAll     = 0x40000000 // __WALL
	traceExit   = 0x40       // PTRACE_O_TRACEEXIT
	exitKill    = 0x100000   // PTRACE_O_EXITKILL
	eventExit   = 6          // PTRACE_EVENT_EXIT
	traceEvents = syscall.PTRACE_O_TRACEFORK | syscall.PTRACE_O_TRACEVFORK | syscall.PTRACE_O_TRACECLONE |
		traceExit | exitKill
)

// run waits for tracees until none is left. It waits for each by its thread id.
// A wait for any child would reap children that others wait for.
func (tr *tracer) run() error {
	for len(tr.tracees) > 0 {
		idle := true
		for tid := range tr.tracees {
			var status syscall.WaitStatus
			n, err := syscall.Wait4(tid, &status, waitAll|syscall.WNOHANG, nil)
			switch {
			case err == syscall.EINTR || err == nil && n == 0:
				continue
			case err != nil || status.Exited() || status.Signaled():
				delete(tr.tracees, tid)
			default:
				if err := tr.stopped(tid, status); err != nil && err != syscall.ESRCH {
					return fmt.Errorf("ptrace: %w", err)
				}
			}
			idle = false
		}
		if idle {
			time.Sleep(200 * time.Microsecond)
		}
	}
	return nil
}

// stopped handles a tracee that has stopped, and continues it.
func (tr *tracer) stopped(tid int, status syscall.WaitStatus) error {
	t := tr.tracees[tid]
	signal := 0
	switch event := int(status) >> 16; {
	case !t.begun: // the stop after exec, or the first one of a thread or a child
		t.begun = true
		if err := syscall.PtraceSetOptions(tid, traceEvents); err != nil {
			return err
		}
	case event == eventExit:
		tr.record(tid, t.process+" at its end")
	case event != 0 && event < eventExit:
		if err := tr.cloned(tid, t); err != nil {
			return err
		}
	case status.StopSignal() != syscall.SIGTRAP:
		signal = int(status.StopSignal())
	}
	return syscall.PtraceCont(tid, signal)
}

// cloned follows the thread or the child that a tracee has made.
func (tr *tracer) cloned(tid int, t *tracee) error {
	made, err := syscall.PtraceGetEventMsg(tid)
	if err != nil {
		return err
	}
	child := int(made)
	leader := groupOf(child)
	if leader != child { // a thread
		tr.tracees[child] = &tracee{process: t.process}
		return nil
	}
	first := tr.tracees[groupOf(tid)]
	if first == nil { // the first thread has ended before
		first = t
	}
	first.forks++
	tr.tracees[child] = &tracee{process: fmt.Sprintf("%s.%d", t.process, first.forks)}
	tr.record(tid, fmt.Sprintf("%s after its fork %d", t.process, first.forks))
	return nil
}

// groupOf returns the process id of a thread.
func groupOf(tid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	_, rest, _ := bytes.Cut(status, []byte("\nTgid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(line)))
	return pid
}

// record notes what is mapped now. When a process ends, each of its threads is
// recorded, and the last record holds.
func (tr *tracer) record(tid int, moment string) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", tid))
	if err != nil || len(maps) == 0 {
		return
	}
	lines := []string{"process " + moment + ":"}
	var regions []string
	for line := range strings.Lines(string(maps)) {
		if r := tr.region(strings.TrimSpace(line)); r != "" {
			regions = append(regions, "\t"+r)
		}
	}
	slices.Sort(regions) // the kernel chooses in which order they lie
	tr.lines[moment] = append(lines, regions...)
}

// region returns what counts of a line of /proc/PID/maps, or "".
func (o *options) region(line string) string {
	// start-end permissions offset device inode name
	f := strings.Fields(line)
	if len(f) < 5 {
		return ""
	}
	low, high, _ := strings.Cut(f[0], "-")
	length := number("0x"+high) - number("0x"+low)
	name := strings.Join(f[5:], " ")
	shared := strings.HasSuffix(f[1], "s") &&
		(name == "/dev/zero" || strings.HasPrefix(name, "/dev/zero (") ||
			strings.HasPrefix(name, "/memfd:") || strings.HasPrefix(name, "["))
	page := uint64(os.Getpagesize())
	private := slices.ContainsFunc(o.lengths,
		func(n string) bool { return (number(n)+page-1)/page*page == length }) && f[4] == "0"
	if !shared && !private {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%d bytes %s offset %s %s", length, f[1], f[2], name))
}

func (tr *tracer) report() []string {
	var moments []string
	for m := range tr.lines {
		moments = append(moments, m)
	}
	slices.Sort(moments)
	var all []string
	for _, m := range moments {
		all = append(all, tr.lines[m]...)
	}
	return all
}
