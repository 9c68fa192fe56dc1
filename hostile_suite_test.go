//go:build linux && cgo

package shm_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// suite attacks the parent by garbage in the bytes that a child can write, at the
// moments that there are in a child's life. SHM_HOSTILE=all takes every byte, else
// some of them are taken, chosen anew each time.
type suite struct {
	*attack
	ends map[string]int // how the attacks ended
}

// moments are when the garbage is written.
var moments = []struct {
	name     string
	act, end uint32
}{
	{"before the reply", ctest.HostileCopy, ctest.HostileReturn},
	{"instead of a reply", ctest.HostileCopy, ctest.HostilePause},
	{"before a crash report", ctest.HostileCopy, ctest.HostileAbort},
	{"before a crash without a report", ctest.HostileCopy, ctest.HostileFault},
	{"before the end", ctest.HostileCopy, ctest.HostileExit},
	{"from now on", ctest.HostileLater, ctest.HostileReturn},
}

// offsets are the bytes of a control page that are attacked. Most of a module's
// name is like its beginning.
func offsets() (all []int) {
	step, skip := 37, rand.IntN(37)
	if os.Getenv("SHM_HOSTILE") == "all" {
		step, skip = 1, 0
	}
	end := shm.CrashOffset + shm.CrashRecordSize - shm.ModuleSize + 16
	for offset := skip; offset < end; offset += step {
		all = append(all, offset)
	}
	return all
}

// order has the hostile child write a byte, and returns how long its call may take.
func (s *suite) order(moment int, offset int, value byte) time.Duration {
	m := moments[moment]
	*s.attack.order = ctest.HostileOrder{Act: m.act, End: m.end, Offset: uint32(offset), Length: 1,
		Value: uint32(value)}
	s.Bytes()[unsafe.Sizeof(*s.attack.order)] = value
	if m.end == ctest.HostilePause {
		return 3 * time.Millisecond
	}
	return 100 * time.Millisecond
}

// count checks and counts how an attack ended.
func (s *suite) count(t *testing.T, got int, err error) {
	t.Helper()
	ended(t, got, err)
	var exit *shm.ExitError
	switch {
	case err == nil:
		s.ends["returned"]++
	case errors.As(err, &exit) && exit.Status.Exited():
		s.ends["exited"]++
	case errors.As(err, &exit):
		s.ends[fmt.Sprintf("ended by %v", exit.Status.Signal())]++
		assert.Regexp(t, printed, err.Error())
	default:
		s.ends["ended by the deadline"]++
	}
}

// successorWorks wants another child in the hostile one's place to do what it is
// asked for. The hostile child itself may lie for calls of its own, so it is killed.
func (s *suite) successorWorks(t *testing.T) {
	t.Helper()
	var info shm.CallInfo
	ctx := shm.WithCallInfo(background, &info)
	got, err := s.pool.Call(ctx, ctest.Add, page, page)
	if err == nil {
		_ = unix.Kill(info.Pid, unix.SIGKILL) // unless what it wrote has ended it
	}
	var exit *shm.ExitError
	for hostile := info.Pid; info.Pid == hostile; got, err = s.pool.Call(ctx, ctest.Add, page, page) {
		require.True(t, err == nil || errors.As(err, &exit), err)
	}
	assert.NoError(t, err)
	assert.Equal(t, page, got)
}

// run makes all attacks by call, and honest calls between them.
func (s *suite) run(t *testing.T, call func(ctx context.Context) (int, error)) {
	t.Helper()
	attacks := 0
	for moment := range moments {
		for _, offset := range offsets() {
			value := []byte{0, 1, 0x41, 0xff}[rand.IntN(4)]
			ctx, cancel := context.WithTimeout(background, s.order(moment, offset, value))
			got, err := call(ctx)
			cancel()
			s.count(t, got, err)
			if attacks++; attacks%20 == 0 && s.pool != nil {
				s.successorWorks(t)
			}
		}
	}
	text := fmt.Sprintf("%d attacks", attacks)
	for _, end := range slices.Sorted(maps.Keys(s.ends)) {
		text += fmt.Sprintf(", %d %s", s.ends[end], end)
	}
	t.Log(text)
}

// Each byte that a child shares with its parent, at each moment, by each kind of
// child: every call ends in time, and siblings, descriptors, mappings, processes and
// memory are as they were.
func TestHostileSuite(t *testing.T) {
	for name, cfg := range map[string]shm.PoolConfig{
		"pool":                {},
		"pool by fork server": {ForkServer: true},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			s := &suite{newAttack(t, 1, &cfg), map[string]int{}}
			honest := newPool(t, nil, 1, &cfg) // a sibling of another pool
			s.run(t, func(ctx context.Context) (int, error) { return s.pool.Call(ctx, ctest.Hostile, 0, page) })
			out, err := honest.Do(background, ctest.DoEcho, []byte("hello"))
			assert.NoError(t, err)
			assert.Equal(t, "hello", string(out))
			require.NoError(t, s.pool.Close())
		})
	}
	for _, name := range []string{"fork", "fork server"} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			m := newMapping(t, shm.Shared, 2*page, nil)
			s := &suite{&attack{m, must(shm.At[ctest.HostileOrder](m, 0)), nil}, map[string]int{}}
			call := func(ctx context.Context) error {
				return shm.Call(ctx, ctest.Hostile, m, &shm.ForkConfig{CloseFDs: true})
			}
			if name == "fork server" {
				server, err := m.ForkServer(nil)
				require.NoError(t, err)
				defer func() { assert.NoError(t, server.Close()) }()
				call = func(ctx context.Context) error { return server.Call(ctx, ctest.Hostile) }
			}
			s.run(t, func(ctx context.Context) (int, error) { return 0, call(ctx) })
			assert.NoError(t, shm.Call(background, ctest.Increment, newMapping(t, shm.Shared, page, nil), nil))
		})
	}
}
