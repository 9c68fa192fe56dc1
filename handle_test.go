//go:build linux && cgo

package shm_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// denials are the errors of pidfd_open(2) where a child must do without: two
// kinds of seccomp(2) filters deny it, and so does Linux before 5.3 and before
// 5.10.
var denials = map[string]unix.Errno{"EPERM": unix.EPERM, "EACCES": unix.EACCES,
	"ENOSYS": unix.ENOSYS, "EINVAL": unix.EINVAL}

// withoutPidfds runs a test in processes of its own that have no pidfds.
func withoutPidfds(t *testing.T, test func(*testing.T)) {
	for _, name := range []string{"EPERM", "ENOSYS"}[:times(2, 1)] {
		errno := denials[name]
		t.Run(name, func(t *testing.T) {
			if !inOwnProcess(t, nil) {
				return
			}
			setFilter(t, unix.SYS_PIDFD_OPEN, errno, unix.SECCOMP_FILTER_FLAG_TSYNC)
			_, err := unix.PidfdOpen(unix.Getpid(), 0)
			require.Equal(t, errno, err)
			test(t)
		})
	}
}

// Without pidfds children do what they do with pidfds.
func TestChildrenWithoutPidfds(t *testing.T) {
	withoutPidfds(t, func(t *testing.T) {
		leavesNothing(t)
		for name, test := range map[string]func(*testing.T){
			"Fork":               TestForkSharesOrCopies,
			"Wait":               TestWaitTellsHowTheChildEnded,
			"WaitsTellTheSame":   TestWaitTellsAllWaitersTheSame,
			"WaitEnds":           TestWaitEndsWithItsContext,
			"Interrupts":         TestWaitSurvivesInterrupts,
			"StatusIsGone":       TestWaitSaysWhenTheStatusIsGone,
			"OtherChildren":      TestOtherChildrenAreLeftAlone,
			"Unreachable":        TestUnreachableChildIsReaped,
			"Signal":             TestSignalReachesTheChild,
			"ReapedIsNotMeant":   TestReapedChildIsNotSignalled,
			"SignalWhileReaped":  TestSignalWhileTheChildIsReaped,
			"WaitChange":         TestWaitChangeTellsOfStops,
			"WaitChangeOnce":     TestWaitChangeTellsEachOnce,
			"SetUpFails":         TestSetUpThatFailsIsForksError,
			"Limits":             TestLimitsAndNiceAreInPlace,
			"KillWithParent":     TestKillWithParent,
			"ProcessGroup":       TestProcessGroupLeavesNoGrandchild,
			"Traced":             TestCallOfAChildThatIsTraced,
			"Call":               TestCallLeavesNoChild,
			"CallsOwnEnd":        TestCallTellsWhatBecameOfTheChild,
			"Memory":             TestMemoryTellsWhatWasWritten,
			"PoolCrash":          TestPoolReplacesWhatCrashed,
			"PoolContext":        TestPoolCallEndsWithItsContext,
			"PoolIdle":           TestPoolSurvivesTheLossOfIdleChildren,
			"PoolClose":          TestPoolClose,
			"PoolIsForgotten":    TestForgottenPoolIsClosed,
			"PoolAndAGrandchild": TestGarbageByAGrandchild,
		} {
			t.Run(name, test)
		}
	})
}

// Without a pidfd a child costs no descriptor, so a full table of descriptors
// is no hindrance.
func TestForkWithoutPidfdsNeedsNoDescriptor(t *testing.T) {
	withoutPidfds(t, func(t *testing.T) {
		m := newMapping(t, shm.Shared, page, &shm.Config{Technique: shm.Anonymous})
		fillDescriptorTable(t)
		assert.NoError(t, wait(t, forked(t, m, ctest.Increment)))
		assert.Equal(t, 1, getInt(m))
	})
}

// A filter of the thread that forks is enough, and says nothing about other
// threads.
func TestForkOnAThreadWithoutPidfds(t *testing.T) {
	leavesNothing(t)
	m := newMapping(t, shm.Shared, page, nil)
	var children []*shm.Process
	for _, errno := range denials {
		onAThreadOfItsOwn(func() {
			deny(t, unix.SYS_PIDFD_OPEN, errno)
			for _, kill := range []bool{false, true} {
				p := must(m.Fork(ctest.Until, &shm.ForkConfig{KillWithParent: kill}))
				children = append(children, p)
				assert.Empty(t, pidfdsOf(p.Pid()))
			}
		})
	}
	ctx, cancel := context.WithTimeout(background, time.Millisecond)
	defer cancel()
	for _, p := range children {
		assert.ErrorIs(t, p.Wait(ctx), context.DeadlineExceeded)
	}
	setInt(m, 5)
	for _, p := range children {
		assert.Equal(t, exited(p, 5), wait(t, p))
	}
	runtime.KeepAlive(children)
}
