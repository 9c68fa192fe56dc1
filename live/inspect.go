package live

import (
	"fmt"
	"runtime"
	"strings"
)

// runtimeInspect is set by a file that livego adds to this package. It fills in
// what there is room for, and returns how much there is.
var runtimeInspect func(gs []goroutine, refs []reference, timers []timers) (ngs, nrefs, ntimers int)

// inspection is what the runtime tells.
type inspection struct {
	goroutines []goroutine
	references []reference
	timers     []timers
}

// goroutine, reference and timers have the layout that the patched runtime knows.
type goroutine struct {
	id        uint64
	state     string
	kind      uint32 // what on is
	inherited bool
	locked    bool
	on        uintptr
	npcs      int
	pcs       [32]uintptr
}

// In goroutine.kind.
const (
	onSemaphore  = 1
	onDescriptor = 2
	inSystemCall = 3
)

type reference struct {
	to uintptr // a semaphore that is waited for
	id uint64  // of the goroutine
}

type timers struct {
	pc uintptr // of the function that they call
	n  int
}

func inspect() *inspection {
	room := [3]int{runtime.NumGoroutine() + 16, 64, 64}
	for {
		in := &inspection{make([]goroutine, room[0]), make([]reference, room[1]), make([]timers, room[2])}
		had := room
		room[0], room[1], room[2] = runtimeInspect(in.goroutines, in.references, in.timers)
		if room[0] <= had[0] && room[1] <= had[1] && room[2] <= had[2] {
			in.goroutines = in.goroutines[:room[0]]
			in.references = in.references[:room[1]]
			in.timers = in.timers[:room[2]]
			return in
		}
		for i := range room {
			room[i] = 2 * max(room[i], had[i]) // the program goes on meanwhile
		}
	}
}

// locks returns what goroutines wait for by package sync, or by the locks of
// descriptors in package internal/poll. The runtime's own semaphores are left
// out: a fork takes them.
func (in *inspection) locks() (found []Finding) {
	at := map[uintptr]int{}
	for _, g := range in.goroutines {
		if g.kind != onSemaphore || !g.waitsBySync() {
			continue
		}
		i, ok := at[g.on]
		if !ok {
			i = len(found)
			at[g.on] = i
			what := fmt.Sprintf("%s at %#x", lockType(g.state), g.on)
			found = append(found, Finding{Kind: Lock, What: what, FD: -1})
		}
		found[i].Waiting = append(found[i].Waiting, g.public())
	}
	for _, r := range in.references {
		i, ok := at[r.to]
		if !ok {
			continue
		}
		for _, g := range in.goroutines {
			if g.id == r.id {
				found[i].Suspects = append(found[i].Suspects, g.public())
			}
		}
	}
	return found
}

// lockType returns sync.Mutex for a goroutine in sync.Mutex.Lock.
func lockType(state string) string {
	for _, method := range []string{".RLock", ".Lock", ".Wait"} {
		if name, ok := strings.CutSuffix(state, method); ok {
			return name
		}
	}
	return "a semaphore"
}

func (in *inspection) timersFound() (found []Finding) {
	for _, t := range in.timers {
		f := runtime.FuncForPC(t.pc)
		if f == nil {
			continue
		}
		what := "calls of " + f.Name() + " by time.AfterFunc"
		switch {
		case f.Name() == "runtime.goroutineReady": // of time.Sleep
			continue
		case f.Name() == "time.sendTime":
			what = "with a channel, as of time.NewTimer"
		case strings.HasPrefix(f.Name(), "runtime.netpoll"):
			what = "deadlines of descriptors"
		case strings.HasPrefix(f.Name(), "context."):
			what = "deadlines of contexts"
		}
		found = append(found, Finding{Kind: Timer, What: fmt.Sprintf("%d %s", t.n, what), FD: -1})
	}
	return found
}

func (in *inspection) threads() (found []Finding) {
	for _, g := range in.goroutines {
		if g.kind == inSystemCall {
			found = append(found, Finding{Kind: SystemCall, What: g.public().String(), FD: -1})
		}
		if g.locked {
			found = append(found, Finding{Kind: LockedThread, What: g.public().String(), FD: -1})
		}
	}
	return found
}

// waiting returns the goroutines that the poller is to wake for a descriptor.
func (in *inspection) waiting(fd int) (waiting []Goroutine) {
	for _, g := range in.goroutines {
		if g.kind == onDescriptor && g.on == uintptr(fd) {
			waiting = append(waiting, g.public())
		}
	}
	return waiting
}

// waitsBySync reports whether the innermost function that is not the runtime's
// is one by which packages wait.
func (g *goroutine) waitsBySync() bool {
	for frame := range g.frames() {
		if !strings.HasPrefix(frame.Function, "runtime.") {
			return strings.HasPrefix(frame.Function, "sync.") ||
				strings.HasPrefix(frame.Function, "internal/")
		}
	}
	return false
}

func (g *goroutine) public() Goroutine {
	p := Goroutine{ID: g.id, State: g.state, Function: "a function unknown"}
	if g.inherited {
		p.State += ", inherited"
	}
	for frame := range g.frames() {
		p.Function, p.File, p.Line = frame.Function, frame.File, frame.Line
		if !isOfWaiting(frame.Function) {
			break
		}
	}
	return p
}

func (g *goroutine) frames() func(yield func(runtime.Frame) bool) {
	return func(yield func(runtime.Frame) bool) {
		frames := runtime.CallersFrames(g.pcs[:g.npcs])
		for more := g.npcs > 0; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			if frame.Function != "" && !yield(frame) {
				return
			}
		}
	}
}

func isOfWaiting(function string) bool {
	for _, prefix := range []string{
		"runtime.", "internal/", "sync.", "syscall.", "time.", "os.", "net.",
	} {
		if strings.HasPrefix(function, prefix) {
			return true
		}
	}
	return false
}
