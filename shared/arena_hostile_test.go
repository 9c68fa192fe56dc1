//go:build linux && cgo

package shared_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"unsafe"

	"forkshm.example/shm"
	"forkshm.example/shm/shared"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// use makes all calls of an arena. They end, whatever the arena's bytes are, and touch nothing outside
// the mapping.
func (s *arenaSite) use() {
	for i := range 3 {
		_, _ = shared.AllocSlice(s.a, &s.refs[i], 64)
		for _, r := range s.refs[:4] {
			if b := r.Slice(s.a, 64); b != nil {
				b[63]++
			}
		}
		_ = shared.Free(s.a, &s.refs[i])
		_ = shared.Free(s.a, &s.refs[3])
	}
	_ = s.a.Check()
	_, _ = s.a.Stats()
}

// Each byte of an arena's own in turn is garbage, and then all at once. Of the hints and of the cells,
// which are many of a kind, some are.
func TestGarbageInAnArena(t *testing.T) {
	briefly := useBriefly(t)
	s := arenaSiteIn(t, newMapping(t, 1<<17, shm.DefaultTechnique()))
	for i, size := range []int{64, 9000, 100, 64} {
		require.NoError(t, s.alloc(t, i, size))
	}
	metas, refs, found := shared.ArenaMeta(s.a), s.Ref, 0
	var whole [][]byte
	for _, meta := range metas {
		whole = append(whole, bytes.Clone(meta))
	}
	try := func() {
		if s.a.Check() != nil {
			found++
		}
		briefly(func(context.Context) { s.use() })
		for i, meta := range metas {
			copy(meta, whole[i])
		}
		s.Ref = refs
	}
	for _, meta := range metas {
		for i := range meta {
			if *stride > 1 && i > 80 && i < len(meta)-80 && rand.IntN(8) != 0 {
				continue
			}
			meta[i] = [...]byte{0xff, 0x80, byte(rand.Uint32())}[rand.IntN(3)]
			try()
		}
	}
	assert.Positive(t, found)
	for range 50 {
		for _, meta := range metas {
			for i := range meta {
				meta[i] = byte(rand.Uint32())
			}
		}
		require.Error(t, s.a.Check())
		try()
	}
	s.freeAll(t)
}

// A process writes garbage all the time that another uses the arena.
func TestGarbageInAnArenaBesideUse(t *testing.T) {
	briefly := useBriefly(t)
	s := newArenaSite(t, shm.DefaultTechnique())
	require.NoError(t, s.alloc(t, 3, 9000))
	var words []*uint32
	for _, meta := range shared.ArenaMeta(s.a) {
		for i := 0; i+4 <= len(meta) && i < 2048; i += 4 {
			words = append(words, (*uint32)(unsafe.Pointer(&meta[i])))
		}
	}
	var stop atomic.Bool
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for !stop.Load() {
			word := words[rand.IntN(len(words))]
			former := atomic.SwapUint32(word, rand.Uint32()>>rand.IntN(32))
			atomic.StoreUint32((*uint32)(unsafe.Pointer(&s.Ref[rand.IntN(4)])), rand.Uint32()>>rand.IntN(32))
			if rand.IntN(4) != 0 {
				atomic.StoreUint32(word, former)
			}
		}
	}()
	for range 100 {
		briefly(func(context.Context) { s.use() })
	}
	stop.Store(true)
	<-stopped
	assert.Zero(t, shared.Held())
}
