//go:build linux && cgo

package shared_test

import (
	"errors"
	"io"
	"testing"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest/sharedc"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/require"
)

// A mapping that grows in place leaves its rings as they are, while both ends use them.
func TestARingGoesOnWhileItsMappingGrows(t *testing.T) {
	size := int(unsafe.Sizeof(sharedc.RingArea{}))
	m, err := shm.Map(shm.Shared, size, &shm.Config{Technique: shm.Memfd, Reserve: 1 << 20})
	require.NoError(t, err)
	defer m.Close()
	a, err := shm.At[sharedc.RingArea](m, 0)
	require.NoError(t, err)
	a.Rounds, a.Longest = 2000, 300
	r := newRing(t, m, sharedc.RingOffset)
	p := fork(t, m, sharedc.RingProduce, nil)
	for i := range a.Rounds {
		require.Equal(t, record(a, i), append([]byte{}, receive(t, r)...))
		if i%100 == 0 {
			require.NoError(t, m.Resize(m.Len()+4096, shm.InPlace))
		}
	}
	_, err = r.Peek(background)
	require.Equal(t, io.EOF, err)
	require.NoError(t, p.Wait(background))
	require.NoError(t, r.CloseRead())
}

// After a mapping has moved, NewRing goes on with the next record. A child's ring stays where it is.
func TestARingAfterAMove(t *testing.T) {
	m, a, _ := newRingArea(t, shm.Memfd)
	a.Rounds, a.Longest = 400, 200
	before, r := m.Addr(), newRing(t, m, sharedc.RingOffset)
	p, err := m.Fork(sharedc.RingProduce, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Kill(); _ = p.Wait(background) })
	for i := range uint32(200) {
		require.Equal(t, record(a, i), append([]byte{}, receive(t, r)...))
	}
	_, err = r.Peek(background) // a record that is not released is there again
	require.NoError(t, err)
	other, err := shm.Map(shm.Shared, m.Len(), &shm.Config{Technique: shm.Memfd})
	require.NoError(t, err)
	if err := m.MoveTo(other); errors.Is(err, errors.ErrUnsupported) {
		require.NoError(t, other.Close())
		t.Skip(err)
	} else {
		require.NoError(t, err)
	}
	require.NotEqual(t, before, m.Addr())
	a, err = shm.At[sharedc.RingArea](m, 0)
	require.NoError(t, err)
	r, err = shared.NewRing(m, sharedc.RingOffset, sharedc.RingBytes)
	require.NoError(t, err)
	for i := uint32(200); i < a.Rounds; i++ {
		require.Equal(t, record(a, i), append([]byte{}, receive(t, r)...))
	}
	_, err = r.Peek(background)
	require.Equal(t, io.EOF, err)
	require.NoError(t, p.Wait(background))
	require.NoError(t, r.CloseRead())
}
