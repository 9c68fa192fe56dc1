//go:build linux

package shm

import (
	"context"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ControlPages returns how many children's control pages are mapped.
func ControlPages() int { return int(controlPages.Load()) }

// VMAsOfControlPage is how many lines of /proc/PID/maps a control page without a
// slot has, with its guards.
const VMAsOfControlPage = 4

// The layout of a control page, for children that damage it.
const (
	ControlPageSize = int(unsafe.Sizeof(controlPage{}))
	ReplySeqOffset  = int(unsafe.Offsetof(controlPage{}.reply) + unsafe.Offsetof(reply{}.seq))
	CrashOffset     = int(unsafe.Offsetof(controlPage{}.crash))
	CrashRecordSize = int(unsafe.Sizeof(crashRecord{}))
	ModuleSize      = maxModule
	MaxSymbolTables = maxSymbolTables
	MaxSpurious     = maxSpurious
)

// CrashRecord returns a record as a child would write it.
func CrashRecord(state uint32, sig unix.Signal, pc, base uintptr, module string) []byte {
	r := crashRecord{state: state, sig: int32(sig), code: 1, addr: 16, pc: uint64(pc),
		base: uint64(base)}
	copy(r.module[:], module)
	return unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))
}

// CrashLocated is the state of a whole record.
const CrashLocated = crashLocated

// CrashOf returns what is made of a record, nil if it is not of that signal.
func CrashOf(record []byte, sig unix.Signal) *Crash {
	r := recordOf(record)
	if !r.isOf(sig) {
		return nil
	}
	c := r.crash(moduleAt(uintptr(r.pc)))
	callers := r.callers()
	c.callers = &callers
	return c
}

// DeniedOf returns what is made of a record, nil if it is not of a denied call.
func DeniedOf(record []byte) *Denied {
	r := recordOf(record)
	return r.denied()
}

// CallersOf returns what is made of the callers in a record that has count of
// them. The first ones are at pcs. If located is set, the child says that no file
// is there.
func CallersOf(count uint32, located bool, pcs ...uint64) []Frame {
	r := crashRecord{state: crashRecorded, frames: count}
	if located {
		r.state = crashLocated
	}
	for i, pc := range pcs {
		r.frame[i].pc = pc
	}
	return r.callers()
}

// CrashWith returns a crash with these callers.
func CrashWith(pc uintptr, callers []Frame) *Crash { return &Crash{PC: pc, callers: &callers} }

// SetUpFailure returns what is made of a set-up report, for a fork with two limits.
func SetUpFailure(call, which, err int32) error {
	r := setUpReport{state: setUpFailed, call: call, which: which, err: err}
	return r.failure(&forkArgs{limitsCount: 2})
}

// AnswerOf returns the answer that is made of a control page with these bytes, to a
// call of Do that has that number and a slot.
func AnswerOf(controlPageBytes []byte, seq uint32, in, out []byte) ([]byte, error) {
	var page controlPage
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&page)), unsafe.Sizeof(page)), controlPageBytes)
	c := &poolChild{Process: &Process{&process{pid: 1}}, control: &control{page: &page}, slot: slot{in, out}}
	_, _, _ = c.control.hasReply(seq), c.control.hasStarted(seq), c.control.result()
	err := c.takeAnswer(&task{job: job{kind: requestDo}})
	c.slot.trim(len(in), c.used)
	return c.answer, err
}

// ServerAnswer returns what is made of the answer that waits in a socket.
func ServerAnswer(fd int, seq uint32) (pid int, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return 0, err
	}
	return serverAnswer(uintptr(fd), seq, 1, 0)
}

func recordOf(record []byte) (r crashRecord) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)), record)
	return r
}

// SymbolTables returns how many symbol tables are kept.
func SymbolTables() int {
	symbolTables.Lock()
	defer symbolTables.Unlock()
	return len(symbolTables.byModule)
}

// GoHeap says whether an address is in what Lean leaves out.
func GoHeap(addr uintptr) bool {
	for _, r := range goHeap() {
		if r.addr <= addr && addr < r.addr+r.length {
			return true
		}
	}
	return false
}

// MoveBack moves a plain mapping to where it was.
func MoveBack(m *Mapping, was unsafe.Pointer) { m.mem.moveBack(was, m.mem.length) }

// SlotMemory returns how many bytes of memory the slots of a pool's children have. No call may be
// under way.
func SlotMemory(p *Pool) (total int) {
	for _, w := range p.workers {
		for _, part := range [][]byte{w.child.slot.in, w.child.slot.out} {
			inMemory := make([]byte, pages(len(part)))
			_, _, err := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&part[0])), uintptr(len(part)),
				uintptr(unsafe.Pointer(&inMemory[0])))
			if err != 0 {
				panic(err)
			}
			for _, b := range inMemory {
				total += int(b&1) * unix.Getpagesize()
			}
		}
	}
	return total
}

// KeepOfSlot is how much of each part of a slot keeps its memory between calls.
const KeepOfSlot = keepOfSlot

// ServerPid returns the process id of a fork server's process, or 0 if it has none.
func (s *ForkServer) ServerPid() int {
	s.turn <- struct{}{}
	defer s.yield()
	if s.server == nil {
		return 0
	}
	return s.server.pid
}

// ServerPid returns the process id of the pool's fork server, or 0 if it has none.
func (p *Pool) ServerPid() int { return (&ForkServer{p.server}).ServerPid() }

// NextPid waits for the child that is forked in advance, and returns its process id.
func (s *ForkServer) NextPid(timeout time.Duration) (pid int, err error) {
	s.turn <- struct{}{}
	defer s.yield()
	if s.server == nil || s.server.next == nil {
		return 0, unix.ESRCH
	}
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if s.server.hasMade() {
			return int(atomic.LoadInt32(&s.server.control.page.reply.result)), nil
		}
	}
	return 0, unix.ETIME
}

// CallWithInit is Call of a child that runs init in its set-up.
func CallWithInit(ctx context.Context, init, child ChildFunc, m *Mapping, cfg *ForkConfig) error {
	p, err := m.startChild(ctx, forkArgs{init: init, child: child}, cfg)
	if err != nil {
		return err
	}
	return p.waitOrEnd(ctx, m)
}

// IsPlain reports whether the children are forked without a server.
func (s *ForkServer) IsPlain() bool { return s.plain }

// A FakeServer stands for a server's process, in tests of what this process does with its answers.
type FakeServer struct{ v *server }

// NewFakeServer returns a fork server whose process is p, and whose end of the socket is fd. p has a
// control page.
func NewFakeServer(p *Process, fd int) (*FakeServer, error) {
	v := &server{Process: p, control: p.control, seq: 1, askedAt: time.Now()}
	v.control.retain()
	return &FakeServer{v}, v.openSocket(fd)
}

// Take waits for the answer to request 1, and returns the child.
func (f *FakeServer) Take(ctx context.Context) (*Process, error) {
	f.v.next, f.v.files = new(forkArgs), new(childFiles)
	return f.v.take(ctx)
}

// Claim writes to the control page that the process has made a child for request 1.
func (f *FakeServer) Claim(pid int) {
	atomic.StoreInt32(&f.v.control.page.reply.result, int32(pid))
	atomic.StoreUint32(&f.v.control.page.reply.seq, 1)
}

// Forget has this package not know a child.
func Forget(p *Process) { children.remove(p.pid) }

// Children returns how many children this package knows.
func Children() int {
	c := children.lock()
	defer c.Unlock()
	return len(c.pids)
}

// IsBroken reports whether the server is not used again.
func (f *FakeServer) IsBroken() bool { return f.v.broken }

// Stop ends the server.
func (f *FakeServer) Stop() error {
	f.v.next = nil
	return f.v.stop()
}

// MapReserved maps memory within a reservation, as Map does after it has checked what it was asked
// for.
func MapReserved(technique Technique, sharing Sharing, length int) error {
	mem, err := mapReserved(technique, sharing, length, new(Config))
	if err != nil {
		return err
	}
	return mem.unmap()
}

// MapHuge maps memory of explicit huge pages in the same way.
func MapHuge(technique Technique, sharing Sharing, length int) error {
	mem, err := mapHuge(technique, sharing, length, &Config{Huge: HugeExplicit})
	if err != nil {
		return err
	}
	return mem.unmap()
}

// HoldsControl reports whether the process's control page could be retained.
func (p *Process) HoldsControl() bool {
	if !p.control.retain() {
		return false
	}
	p.control.release()
	return true
}
