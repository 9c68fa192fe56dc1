//go:build linux && cgo

package shm_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// What a child that was taken over can do to its parent and to its siblings: nothing but to lie
// about its own call. docs/SECURITY.md names these tests.

// attack is a mapping whose first page orders a hostile child about. The second
// page is a sibling's.
type attack struct {
	*shm.Mapping
	order *ctest.HostileOrder
	pool  *shm.Pool
}

// newAttack makes a pool of n children, of which one is to be hostile.
func newAttack(t *testing.T, n int, cfg *shm.PoolConfig) *attack {
	t.Helper()
	m := newMapping(t, shm.Shared, 2*page, nil)
	fill(m.Bytes()[page:], 1)
	if cfg == nil {
		cfg = new(shm.PoolConfig)
	}
	cfg.RestartRate = 1e6
	a := &attack{m, must(shm.At[ctest.HostileOrder](m, 0)), newPool(t, m, n, cfg)}
	t.Cleanup(func() { atomic.StoreUint32(&a.order.Stop, 1) })
	return a
}

// call has the hostile child do it. What it does not return from ends soon, by
// the call's context.
func (a *attack) call(t *testing.T, act, end, offset, length, value uint32) (int, error) {
	t.Helper()
	*a.order = ctest.HostileOrder{Act: act, End: end, Offset: offset, Length: length, Value: value}
	limit := 100 * time.Millisecond // what it wrote may cost it the call
	switch {
	case end == ctest.HostilePause:
		limit = 3 * time.Millisecond
	case end == ctest.HostileFault, act == ctest.HostileOverrun:
		limit = 2 * time.Minute // the call ends by a fault, however slow the machine is
	}
	ctx, cancel := context.WithTimeout(background, limit)
	defer cancel()
	got, err := a.pool.Call(ctx, ctest.Hostile, 0, page)
	require.NotErrorIs(t, ctx.Err(), context.Canceled)
	return got, err
}

// ended wants a call to have ended in the way that its order says: how it ended
// the child can choose, but not more.
func ended(t *testing.T, got int, err error) {
	t.Helper()
	var exit *shm.ExitError
	switch {
	case err == nil: // it may have made that up
		assert.LessOrEqual(t, math.Abs(float64(got)), float64(math.MaxInt32)+1)
	case errors.As(err, &exit):
		assert.NotZero(t, exit.Pid)
	default:
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

// siblingWorks wants a sibling of the hostile child, or its successor, to do
// what it is asked for.
func (a *attack) siblingWorks(t *testing.T) {
	t.Helper()
	got, err := a.pool.Call(background, ctest.Add, page, page)
	var exit *shm.ExitError
	if errors.As(err, &exit) {
		// The call went to the hostile child itself, and the child ends of what it wrote.
		got, err = a.pool.Call(background, ctest.Add, page, page)
	}
	assert.NoError(t, err)
	assert.Equal(t, page, got)
}

var garbage = []uint32{0, 1, 2, 0x41414141, math.MaxInt32, math.MaxUint32}

// Each word of the page, at each moment that a child comes to. The rest of a
// module's name is like its beginning.
func TestGarbageInEachWordOfTheControlPage(t *testing.T) {
	leavesNothing(t)
	a := newAttack(t, 1, nil)
	for offset := 0; offset+4 <= shm.ControlPageSize; offset += 4 {
		if offset > shm.CrashOffset+128 {
			offset += 60
		}
		for i, end := range []uint32{ctest.HostileReturn, ctest.HostileAbort, ctest.HostilePause} {
			value := garbage[(offset/4+i)%len(garbage)]
			got, err := a.call(t, ctest.HostileFill, end, uint32(offset), 4, value)
			ended(t, got, err)
		}
	}
	require.NoError(t, a.pool.Close())
}

func TestRandomGarbageInTheControlPage(t *testing.T) {
	leavesNothing(t)
	a := newAttack(t, 2, nil)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	t.Log("seed", seed)
	for range 100 {
		offset := r.Uint32N(uint32(shm.ControlPageSize))
		length := r.Uint32N(uint32(shm.ControlPageSize)-offset) + 1
		end := []uint32{ctest.HostileReturn, ctest.HostilePause, ctest.HostileAbort,
			ctest.HostileFault, ctest.HostileExit}[r.IntN(5)]
		got, err := a.call(t, ctest.HostileRandom, end, offset, length, r.Uint32())
		ended(t, got, err)
	}
	require.NoError(t, a.pool.Close())
}

// What a child wrote does not count for its successor, nor for the call of a
// sibling that is under way.
func TestGarbageHarmsNoSibling(t *testing.T) {
	leavesNothing(t)
	a := newAttack(t, 2, nil)
	for _, end := range []uint32{ctest.HostilePause, ctest.HostileAbort, ctest.HostileExit} {
		for range 10 {
			started := make(chan struct{})
			honest := make(chan error)
			go func() {
				close(started)
				got, err := a.pool.Call(background, ctest.Sleep, page, 3)
				if err == nil && got != 0 {
					err = fmt.Errorf("got %d", got)
				}
				honest <- err
			}()
			<-started
			got, err := a.call(t, ctest.HostileFill, end, 0, uint32(shm.ControlPageSize),
				0x41414141)
			ended(t, got, err)
			if atomic.LoadUint32(&a.order.Begun) == 1 { // before its call's deadline
				assert.Equal(t, uint32(2), a.order.Pages,
					"it has its own slot and control page, and no other")
			}
			assert.NoError(t, <-honest)
			a.siblingWorks(t)
		}
	}
}

// The word by which a child answers changes all the time: FUTEX_WAIT returns at
// once then.
func TestAChildThatNeverStopsWriting(t *testing.T) {
	leavesNothing(t)
	a := newAttack(t, 1, nil)
	for range 5 {
		*a.order = ctest.HostileOrder{Act: ctest.HostileRandom, End: ctest.HostileRepeat,
			Offset: uint32(shm.ReplySeqOffset), Length: 4}
		ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
		_, err := a.pool.Call(ctx, ctest.Hostile, 0, page)
		cancel()
		if err != nil { // it may have hit upon the answer
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
	}
	// Close ends a call that has no deadline.
	*a.order = ctest.HostileOrder{Act: ctest.HostileFill, End: ctest.HostileRepeat,
		Length: uint32(shm.ControlPageSize), Value: 0x41414141}
	called := make(chan error)
	go func() {
		_, err := a.pool.Call(background, ctest.Hostile, 0, page)
		called <- err
	}()
	require.True(t, eventually(func() bool { return atomic.LoadUint32(&a.order.Begun) == 1 }))
	assert.NoError(t, a.pool.Close())
	assert.ErrorIs(t, <-called, shm.ErrPoolClosed)
}

// A child's child keeps the page that its parent had, and writes to it as long
// as it likes.
func TestGarbageByAGrandchild(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil) // it is the grandchild's for longer than the pool's
	order := must(shm.At[ctest.HostileOrder](m, 0))
	p := newPool(t, m, 1, &shm.PoolConfig{RestartRate: 1e6})
	*order = ctest.HostileOrder{Act: ctest.HostileGrandchild, Length: uint32(shm.ControlPageSize)}
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	called := make(chan struct{})
	go func() {
		defer close(called)
		_, _ = p.Call(ctx, ctest.Hostile, 0, page)
	}()
	require.True(t, eventually(func() bool { return atomic.LoadUint32(&order.Begun) == 1 }),
		"the grandchild writes")
	cancel() // the garbage may have cost the answer
	<-called
	require.True(t, eventually(func() bool {
		short, cancelShort := context.WithTimeout(background, 10*time.Millisecond)
		defer cancelShort()
		_, _ = p.Call(short, ctest.Pause, 0, 0) // ends that child, if the garbage has not
		return p.Stats().Restarts > 0
	}))
	for range 100 {
		got, err := p.Call(background, ctest.Sleep, 0, 0)
		require.NoError(t, err)
		require.Zero(t, got)
	}
	assert.NoError(t, p.Close())
	atomic.StoreUint32(&order.Stop, 1)
}

func TestTheControlPageHasGuards(t *testing.T) {
	leavesNothing(t)
	a := newAttack(t, 2, nil)
	for up, end := range []int{-1, page} { // the report before the page is unmapped
		_, err := a.call(t, ctest.HostileOverrun, ctest.HostileReturn, 0, uint32(up), 0)
		var exit *shm.ExitError
		require.ErrorAs(t, err, &exit)
		assert.Equal(t, unix.SIGSEGV, exit.Status.Signal())
		assert.Equal(t, end, int(int32(a.order.Value)), "it came so far")
		a.siblingWorks(t)
	}
}

// A call's wake-up may be missing, or come without end. It is late then, or its
// context ends it.
func TestWakeUpsThatLie(t *testing.T) {
	leavesNothing(t)
	for _, cfg := range []*shm.PoolConfig{nil, {InheritFDs: true}} {
		// Such a child has all of the pool's sockets.
		for _, act := range []uint32{ctest.HostileFlood, ctest.HostileShut, ctest.HostileBlock} {
			a := newAttack(t, 1, cfg)
			for _, end := range []uint32{ctest.HostilePause, ctest.HostileReturn,
				ctest.HostilePause} {
				got, err := a.call(t, act, end, 0, 0, 0)
				ended(t, got, err)
			}
			got, err := a.pool.Call(background, ctest.Sleep, 0, 2) // in the poller
			assert.NoError(t, err)
			assert.Zero(t, got)
			assert.NoError(t, a.pool.Close())
		}
	}
}

// A child's end chooses no descriptor of its successor's.
func TestSuccessorsHaveTheirOwnDescriptors(t *testing.T) {
	leavesNothing(t)
	a := newAttack(t, 1, nil)
	before, err := a.pool.Call(background, ctest.FDs, 0, 0)
	require.NoError(t, err)
	for _, value := range garbage[3:] { // with none of these it can answer
		got, err := a.call(t, ctest.HostileFill, ctest.HostileAbort, 0, uint32(shm.ControlPageSize),
			value)
		ended(t, got, err)
		got, err = a.pool.Call(background, ctest.FDs, 0, 0)
		assert.NoError(t, err)
		assert.Equal(t, before, got, "after %#x", value)
	}
}

// A pool's children have no descriptor of their parent's, unless that says so.
func TestPoolChildrenInheritNoDescriptors(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	m := newMapping(t, shm.Shared, page, nil)
	fds := func(cfg *shm.PoolConfig) int {
		return must(newPool(t, m, 1, cfg).Call(background, ctest.FDs, 0, 0))
	}
	plain := fds(nil)
	assert.LessOrEqual(t, plain, 4, "standard files, and the one by which it answers")
	assert.Equal(t, plain+1,
		fds(&shm.PoolConfig{Fork: shm.ForkConfig{KeepFDs: []int{int(w.Fd())}}}))
	assert.Greater(t, fds(&shm.PoolConfig{InheritFDs: true}), plain+1)
}

// Forks of others go on beside children that write garbage to all that they
// share.
func TestForksBesideAHostileChild(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	order := must(shm.At[ctest.HostileOrder](m, 0))
	*order = ctest.HostileOrder{Act: ctest.HostileRandom, End: ctest.HostileRepeat,
		Length: uint32(shm.ControlPageSize)}
	hostile := forkedWith(t, m, ctest.Hostile, &shm.ForkConfig{CloseFDs: true})
	require.True(t, eventually(func() bool { return atomic.LoadUint32(&order.Begun) == 1 }))
	assert.Equal(t, uint32(1), order.Pages)
	other := newMapping(t, shm.Shared, page, nil)
	for range 50 {
		assert.NoError(t, shm.Call(background, ctest.Increment, other, setUps["all"]))
		_, err := other.Fork(ctest.Increment, &shm.ForkConfig{Limits: []shm.Limit{{Resource: 99}}})
		assert.EqualError(t, err, fmt.Sprintf("shm: fork %d bytes: ForkConfig.Limits[0] "+
			"(resource 99, soft 0, hard 0): setrlimit: invalid argument", page))
	}
	assert.Equal(t, 50, getInt(other))
	require.NoError(t, hostile.Kill())
	assert.Equal(t, killed(hostile, unix.SIGKILL), wait(t, hostile))
}

// printed is what an error's text may have in it.
var printed = regexp.MustCompile(`^[ -~]*$`)

// A child's crash record names what it likes. Nothing is opened by that name,
// nor kept of it.
func TestCrashRecordsThatLie(t *testing.T) {
	leavesNothing(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	a := newAttack(t, 1, nil)
	tables := -1
	for i, module := range []string{"/proc/self/exe", fifo,
		"/x\n2026/01/01 00:00:00 root logged in\x1b[2J", "\xff\u202e", strings.Repeat("/", 2000)} {
		record := shm.CrashRecord(shm.CrashLocated, unix.SIGSEGV, 0x1000+uintptr(i), 0, module)
		copy(a.Bytes()[unsafe.Sizeof(*a.order):], record)
		_, err := a.call(t, ctest.HostileCopy, ctest.HostileFault, uint32(shm.CrashOffset),
			uint32(len(record)), 0)
		var exit *shm.ExitError
		require.ErrorAs(t, err, &exit)
		require.NotNil(t, exit.Crash, "%v", err)
		assert.Equal(t, uintptr(16), exit.Crash.Addr)
		assert.NotEmpty(t, exit.Crash.Module)
		assert.Empty(t, exit.Crash.Symbol)
		assert.Regexp(t, printed, err.Error())
		if tables == -1 {
			tables = shm.SymbolTables()
		}
		assert.Equal(t, tables, shm.SymbolTables())
	}
}

// An interrupt from the terminal goes to the program's process group. Its calls
// go on.
func TestCallsSurviveASignalToTheGroup(t *testing.T) {
	if !inOwnProcess(t, &syscall.SysProcAttr{Setpgid: true}) {
		return
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT)
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 1, nil)
	for range 10 {
		setInt(m, 0)
		called := make(chan int)
		go func() {
			got, err := p.Call(background, ctest.Until, 0, 4)
			assert.NoError(t, err)
			called <- got
		}()
		require.NoError(t, unix.Kill(0, unix.SIGINT))
		<-signals
		setInt(m, 5)
		assert.Equal(t, 5, <-called)
	}
}

// Attacks leave no memory behind: neither mappings nor heap.
func TestAttacksCostNoMemory(t *testing.T) {
	leavesNothing(t)
	a := newAttack(t, 1, nil)
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	var before uint64
	for i := range 300 {
		module := "/proc/self/" + strings.Repeat("/", i) + "exe"
		record := shm.CrashRecord(shm.CrashLocated, unix.SIGSEGV, 0x1000, 0, module)
		copy(a.Bytes()[unsafe.Sizeof(*a.order):], record)
		_, err := a.call(t, ctest.HostileCopy, ctest.HostileFault,
			uint32(shm.CrashOffset), uint32(len(record)), 0)
		require.Error(t, err)
		if i == 100 {
			before = heap()
		}
	}
	assert.Less(t, heap(), before+1<<20, "200 crashes")
}

// A result's 32 bits come back whole from a pool. From a child that ends, 8 of
// them do, and a failure stays one.
func TestResultsAreNotCutToSuccess(t *testing.T) {
	m := newMapping(t, shm.Shared, page, nil)
	p := newPool(t, m, 1, nil)
	for _, result := range []int{0, 1, 255, 256, 512, 1 << 16, math.MaxInt32, math.MinInt32, -1,
		-256} {
		setInt(m, result)
		got, err := p.Call(background, ctest.Status, 0, 4)
		assert.NoError(t, err)
		assert.Equal(t, result, got)
		err = shm.Call(background, ctest.Status, m, nil)
		if result == 0 {
			assert.NoError(t, err)
			continue
		}
		var exit *shm.ExitError
		if assert.ErrorAs(t, err, &exit, strconv.Itoa(result)) && result&0xff == 0 {
			assert.Equal(t, 255, exit.Status.ExitStatus())
		}
	}
}

func FuzzCrashRecord(f *testing.F) {
	here := reflectPC()
	f.Add(shm.CrashRecord(shm.CrashLocated, unix.SIGSEGV, 0x1000, 0, "/x\n\x1b[2J"),
		int(unix.SIGSEGV))
	f.Add(shm.CrashRecord(shm.CrashLocated, unix.SIGBUS, here, here&^0xfff, must(os.Executable())),
		int(unix.SIGBUS))
	f.Add(shm.CrashRecord(shm.CrashLocated-1, unix.SIGILL, here, 0, ""), int(unix.SIGILL))
	f.Add(shm.CrashRecord(math.MaxUint32, unix.SIGILL, math.MaxUint32, 1,
		strings.Repeat("m", 5000)), int(unix.SIGILL))
	f.Add(shm.CrashRecord(shm.CrashLocated, unix.SIGSYS, here, 0, "/x\n\x1b[2J"), int(unix.SIGSYS))
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, record []byte, sig int) {
		c := shm.CrashOf(record, unix.Signal(sig))
		if c == nil {
			return
		}
		e := shm.ExitError{Pid: 1, Status: unix.WaitStatus(sig & 0x7f), Crash: c}
		if sig == int(unix.SIGSYS) {
			e.Denied = shm.DeniedOf(record)
		}
		for _, r := range e.Error() {
			if !strconv.IsPrint(r) {
				t.Fatalf("%q", e.Error())
			}
		}
		if len(e.Error()) > 8192 { // each of 1024 bytes may be quoted by four
			t.Fatal(len(e.Error()), "bytes")
		}
	})
}

// reflectPC returns an instruction of this program.
func reflectPC() uintptr {
	pc, _, _, _ := runtime.Caller(0)
	return pc
}

// The set-up report is out of a child's reach before its function begins, also by way of its neighbours.
func TestTheSetUpReportIsOutOfReach(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	for _, cfg := range []*shm.ForkConfig{{CloseFDs: true}, {CloseFDs: true, KillWithParent: true, ProcessGroup: true},
		{Nice: 1}} {
		p := forkedWith(t, m, ctest.ReachReport, cfg)
		assert.NoError(t, wait(t, p), "1 means that the child has found the report")
	}
	pool := newPool(t, m, 1, &shm.PoolConfig{MaxIn: page, MaxOut: page})
	_, err := pool.Call(background, ctest.Increment, 0, page) // the request's number is not 1 from now on
	require.NoError(t, err)
	got, err := pool.Call(background, ctest.ReachReport, 0, page)
	assert.NoError(t, err)
	assert.Zero(t, got)
	assert.NoError(t, pool.Close())
}

// docs/SECURITY.md promises nothing without a test.
func TestSecurityNamesItsTests(t *testing.T) {
	text := string(must(os.ReadFile("docs/SECURITY.md")))
	var tests strings.Builder
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "internal/*/*_test.go", "tests/*/*_test.go"} {
		for _, file := range must(filepath.Glob(pattern)) {
			tests.Write(must(os.ReadFile(file)))
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z]+)`").FindAllStringSubmatch(text, -1)
	assert.Greater(t, len(named), 10)
	for _, name := range named {
		assert.True(t, strings.Contains(tests.String(), "func "+name[1]+"("), name[1])
	}
}
