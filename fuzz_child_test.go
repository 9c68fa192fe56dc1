//go:build linux && cgo

package shm_test

import (
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
)

// Each of these is one parser of what a child can write: FuzzCrashRecord is that
// of crashes and denied calls.

// A set-up report says why there is no child. It makes an error, whatever it says.
func FuzzSetUpReport(f *testing.F) {
	for call := range int32(25) {
		f.Add(call, int32(0), int32(unix.EPERM))
	}
	f.Add(int32(5), int32(math.MaxInt32), int32(-1))
	f.Add(int32(math.MinInt32), int32(math.MinInt32), int32(math.MinInt32))
	f.Fuzz(func(t *testing.T, call, which, err int32) {
		failure := shm.SetUpFailure(call, which, err)
		require.Error(t, failure)
		assert.Regexp(t, printed, failure.Error())
		assert.Less(t, len(failure.Error()), 300)
	})
}

// A reply has the length of an answer, and how much of the slot it has used.
func FuzzReply(f *testing.F) {
	f.Add([]byte{}, uint32(1))
	f.Add(make([]byte, shm.ControlPageSize), uint32(0))
	for _, value := range []byte{1, 0x7f, 0x80, 0xff} {
		page := make([]byte, shm.ControlPageSize)
		for i := range page {
			page[i] = value
		}
		f.Add(page, uint32(value))
	}
	m, err := shm.Map(shm.Shared, 2*page, nil)
	require.NoError(f, err)
	f.Cleanup(func() { _ = m.Close() })
	f.Fuzz(func(t *testing.T, controlPage []byte, seq uint32) {
		answer, err := shm.AnswerOf(controlPage, seq, m.Bytes()[:page], m.Bytes()[page:])
		if err != nil {
			assert.ErrorIs(t, err, shm.ErrRange)
			assert.Nil(t, answer)
			return
		}
		assert.LessOrEqual(t, len(answer), page)
		assert.Equal(t, len(answer), cap(answer), "what follows is no part of it")
	})
}

// A fork server's answer names nobody but who has sent it, who must be a child.
// Here this process itself has.
func FuzzServerAnswer(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0}, uint8(0))
	f.Add([]byte{1, 0, 0, 0, 11, 0, 0, 0}, uint8(3))
	f.Add([]byte{}, uint8(1))
	f.Add(make([]byte, 5000), uint8(200))
	f.Fuzz(func(t *testing.T, answer []byte, descriptors uint8) {
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(ends[1])
		defer unix.Close(ends[0])
		var control []byte
		if descriptors > 0 {
			control = unix.UnixRights(make([]int, descriptors)...)
		}
		if err := unix.Sendmsg(ends[1], answer, control, nil, 0); err != nil {
			t.Skip(err) // more than the kernel sends
		}
		before := openDescriptors()
		pid, err := shm.ServerAnswer(ends[0], 1)
		assert.Zero(t, pid)
		assert.True(t, errors.Is(err, unix.EPROTO) || errors.Is(err, unix.EPIPE), "%v", err)
		assert.Equal(t, before, openDescriptors())
	})
}
