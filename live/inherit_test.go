//go:build linux && cgo && livego

package live_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func runtimeStack(buf []byte) int { return runtime.Stack(buf, true) }

// switched writes to one writer in the parent, with a lock held, and to another
// in a child.
type switched struct {
	parents slowWriter
	childs  *bytes.Buffer
}

func (s switched) Write(p []byte) (int, error) {
	if live.Child() {
		return s.childs.Write(p)
	}
	return s.parents.Write(p)
}

// The child can use a logger of package log or a handler of log/slog, even if
// another goroutine was writing by it at the fork.
func TestTheChildHasEveryLoggerOfTheStandardLibrary(t *testing.T) {
	formerOutput, formerFlags, formerDefault := log.Writer(), log.Flags(), slog.Default()
	defer func() {
		slog.SetDefault(formerDefault)
		log.SetOutput(formerOutput)
		log.SetFlags(formerFlags)
	}()
	for name, logger := range map[string]func(w io.Writer) (parents, childs func(string)){
		"log.New": func(w io.Writer) (_, _ func(string)) {
			l := log.New(w, "", 0)
			return func(s string) { l.Print(s) }, func(s string) { l.SetPrefix("x "); l.Print(s) }
		},
		"slog.JSONHandler": func(w io.Writer) (_, _ func(string)) {
			l := slog.New(slog.NewJSONHandler(w, nil))
			return func(s string) { l.Info(s) }, func(s string) { l.Info(s) }
		},
		"a handler with attributes": func(w io.Writer) (_, _ func(string)) {
			l := slog.New(slog.NewTextHandler(w, nil))
			return func(s string) { l.With("a", 1).Info(s) },
				func(s string) { l.WithGroup("g").With("b", 2).Info(s) }
		},
		"slog.SetDefault": func(w io.Writer) (_, _ func(string)) {
			slog.SetDefault(slog.New(slog.NewJSONHandler(w, nil)))
			return func(s string) { log.Print(s) }, func(s string) { log.Print(s); slog.Info(s) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := switched{make(slowWriter), new(bytes.Buffer)}
			parents, childs := logger(w)
			done := make(chan bool)
			go func() { parents("parent's"); close(done) }()
			<-w.parents // it has the lock
			waits := make(chan bool)
			go func() { parents("another's"); close(waits) }()
			untilGoroutine(t, "[sync.Mutex.Lock",
				"TestTheChildHasEveryLoggerOfTheStandardLibrary")
			p, err := live.Go(func() int {
				logs := make(chan bool)
				for range 20 { // goroutines that find the lock as it was inherited
					go func() { childs("child's"); logs <- true }()
				}
				for range 20 {
					<-logs
				}
				p, err := live.Go(func() int { childs("grandchild's"); return good })
				if err != nil || waitOrDump(p) == nil {
					return 1
				}
				if n := bytes.Count(w.childs.Bytes(), []byte("child's")); n < 20 ||
					bytes.Contains(w.childs.Bytes(), []byte("parent's")) {
					return 2
				}
				return good
			})
			require.NoError(t, err)
			assert.Equal(t, good, wait(t, p))
			w.parents <- true
			<-done
			<-w.parents
			w.parents <- true
			<-waits
		})
	}
}

// A context that the child derives from an inherited context ends at that one's
// deadline.
func TestADerivedContextHasItsParentsDeadline(t *testing.T) {
	inherited, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	p, err := live.Go(func() int {
		derived, cancel := context.WithTimeout(inherited, time.Hour)
		defer cancel()
		again, cancel := context.WithCancel(derived)
		defer cancel()
		want, _ := inherited.Deadline()
		if d, ok := derived.Deadline(); !ok || !d.Equal(want) {
			return 1
		}
		<-again.Done() // an hour, else
		if !errors.Is(again.Err(), context.DeadlineExceeded) {
			return 2
		}
		free, cancel := context.WithTimeout(context.WithoutCancel(inherited), time.Millisecond)
		defer cancel()
		<-free.Done()
		return good
	})
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
	<-inherited.Done()
}
