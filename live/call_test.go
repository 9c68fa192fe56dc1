//go:build linux && cgo && livego

package live_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type tree struct {
	Name     string
	Children map[string]*tree
}

func TestCallReturnsWhatTheFunctionReturns(t *testing.T) {
	ctx := context.Background()
	n, err := live.Call(ctx, func() (int, error) { return os.Getpid(), nil })
	require.NoError(t, err)
	assert.NotEqual(t, os.Getpid(), n)

	want := tree{"root", map[string]*tree{"a": {Name: "leaf"}}}
	got, err := live.Call(ctx, func() (tree, error) { return want, nil })
	require.NoError(t, err)
	assert.Equal(t, want, got)

	none, err := live.Call(ctx, func() (*tree, error) { return nil, nil })
	require.NoError(t, err)
	assert.Nil(t, none)

	long := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 64 times what a pipe holds
	text, err := live.Call(ctx, func() ([]byte, error) { return long, nil })
	require.NoError(t, err)
	assert.True(t, bytes.Equal(long, text))
}

func TestCallTakesACodecOfItsCallers(t *testing.T) {
	config := &live.CallConfig{
		Config: live.Config{DropFDs: true, BeginWithin: childLimit},
		Encode: func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
		Decode: func(r io.Reader, v any) error { return json.NewDecoder(r).Decode(v) },
	}
	got, err := live.CallWith(context.Background(), func() (map[string]any, error) { return map[string]any{"a": "b"}, nil }, config)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"a": "b"}, got)
	assert.Empty(t, config.KeepFDs)

	config.Decode = func(io.Reader, any) error { panic("on purpose") }
	_, err = live.CallWith(context.Background(), func() (int, error) { return 1, nil }, config)
	assert.EqualError(t, err, "live: call: decode a result of 2 bytes: panic: on purpose")
}

func TestCallReturnsTheFunctionsError(t *testing.T) {
	n, err := live.Call(context.Background(), func() (int, error) {
		_, err := os.Open("/no/such/file")
		return 7, fmt.Errorf("read the table: %w", err)
	})
	assert.Zero(t, n)
	var failed *live.CallError
	require.ErrorAs(t, err, &failed)
	assert.EqualError(t, err, "live: call: read the table: open /no/such/file: no such file or directory")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.Empty(t, failed.Trace)
	assert.NoError(t, failed.Err)

	_, err = live.Call(context.Background(), func() (chan int, error) { return make(chan int), nil })
	assert.ErrorContains(t, err, "live: call: encode the result: gob: ")
}

func panicOnPurpose(table []int) int { return table[len(table)] }

func TestCallReturnsAPanicWithItsTrace(t *testing.T) {
	_, err := live.Call(context.Background(), func() (int, error) { return panicOnPurpose([]int{1}), nil })
	var failed *live.CallError
	require.ErrorAs(t, err, &failed)
	assert.EqualError(t, err, "live: call: panic: runtime error: index out of range [1] with length 1")
	assert.Contains(t, failed.Trace, "live_test.panicOnPurpose(")
	var exit *shm.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 2, exit.Status.ExitStatus())

	_, err = live.Call(context.Background(), func() (int, error) { runtime.Goexit(); return 0, nil })
	require.ErrorAs(t, err, &failed)
	assert.EqualError(t, err, "live: call: runtime.Goexit was called")
}

func TestCallTellsHowTheChildEnded(t *testing.T) {
	for name, c := range map[string]struct {
		end  func()
		want string
	}{
		"exit":   {func() { os.Exit(3) }, "exit status 3"},
		"signal": {func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }, "signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := live.Call(context.Background(), func() (int, error) { c.end(); return 0, nil })
			var exit *shm.ExitError
			require.ErrorAs(t, err, &exit)
			assert.EqualError(t, err, fmt.Sprintf("child %d: %s", exit.Pid, c.want))
		})
	}
	_, err := live.Call(context.Background(), func() (int, error) { syscall.Exit(0); return 0, nil })
	assert.EqualError(t, err, "live: call: the child exited without an answer")
}

func TestCallEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	go func() {
		_, _ = r.Read(make([]byte, 1)) // the function runs
		cancel()
	}()
	_, err = live.Call(ctx, func() (int, error) {
		_, _ = syscall.Write(int(w.Fd()), []byte{1})
		for {
			time.Sleep(time.Hour)
		}
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "is killed")
	require.NoError(t, w.Close())
	_, err = r.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "no child is left that has the pipe")

	_, err = live.Call(ctx, func() (int, error) { return 1, nil })
	assert.ErrorIs(t, err, context.Canceled)
}

func TestCallEndsWithItsParent(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	parent, err := live.Go(func() int {
		_, _ = live.Call(context.Background(), func() (int, error) {
			_, _ = syscall.Write(int(w.Fd()), []byte{1})
			for {
				time.Sleep(time.Hour)
			}
		})
		return 0
	})
	require.NoError(t, err)
	_, err = r.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, parent.Kill())
	assert.Error(t, parent.Wait(context.Background()))
	require.NoError(t, w.Close())
	_, err = r.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "the call's child has ended")
}

func TestCallBoundsTheResult(t *testing.T) {
	config := &live.CallConfig{Limit: 1000}
	send := func(n int) error {
		_, err := live.CallWith(context.Background(), func() ([]byte, error) { return make([]byte, n), nil }, config)
		return err
	}
	assert.NoError(t, send(900))
	for _, n := range []int{1001, 150_000, 10_000_000} { // short, longer than a failure's text, longer than the pipe
		err := send(n)
		assert.ErrorIs(t, err, live.ErrTooLong)
		assert.ErrorContains(t, err, "more than 1000 bytes")
	}
	config.Limit = 0
	_, err := live.CallWith(context.Background(), func() (*tree, error) { return &tree{Name: strings.Repeat(" ", 2<<20)}, nil }, config)
	assert.ErrorIs(t, err, live.ErrTooLong, "of what nests")
	assert.NoError(t, send(2<<20))

	config.Limit = -1
	assert.EqualError(t, send(1), "live: CallConfig.Limit is -1, must not be negative")
	config = &live.CallConfig{Encode: func(io.Writer, any) error { return nil }}
	assert.ErrorContains(t, send(1), "needs both or neither")
}

// list is of what gob decodes by recursion: an element a level.
type list struct{ Next *list }

// sending has the call's child send text in place of an answer.
func sending[T any](text []byte) (T, error) {
	before := map[int]bool{}
	for _, fd := range pipes() {
		before[fd] = true
	}
	return live.Call(context.Background(), func() (v T, err error) {
		for _, fd := range pipes() {
			for rest := text; !before[fd] && len(rest) > 0; {
				n, err := syscall.Write(fd, rest)
				if err != nil { // it is the reading end
					break
				}
				rest = rest[n:]
			}
		}
		syscall.Exit(0)
		return v, nil
	})
}

func pipes() (fds []int) {
	for fd := range 1000 {
		if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(link, "pipe:") {
			fds = append(fds, fd)
		}
	}
	return fds
}

// A child whose memory is damaged may send anything.
func TestCallRefusesGarbage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		text := make([]byte, random.IntN(200)+2)
		for i := range text {
			text[i] = byte(random.Uint32())
		}
		for _, kind := range []byte{'v', 'e', 'p', 'x'} {
			text[0] = kind
			v, err := sending[map[string][]tree](text)
			assert.Error(t, err, "%q", text)
			assert.Nil(t, v)
		}
	}
	_, err := sending[int]([]byte{'e', 1, 0, 0, 0, 255, 255, 255, 255, 'x'})
	assert.EqualError(t, err, "live: call: the child's answer is damaged")
}

// A list as long as the limit allows does not take all of the stack that a
// goroutine may have: that would end the program.
func TestCallDecodesWhatIsNestedAsDeepAsItGets(t *testing.T) {
	if !alone(t) { // nestedList needs the numbers that gob gives to a program's first types
		return
	}
	// 1 MiB of lists, and the gigabyte of stack that a goroutine may have: an
	// eighth of each.
	const depth = 500_000 / 8
	defer debug.SetMaxStack(debug.SetMaxStack(1_000_000_000 / 8))
	v, err := sending[list](append([]byte{'v'}, nestedList(t, depth)...))
	require.NoError(t, err)
	levels := 0
	for at := &v; at.Next != nil; at = at.Next {
		levels++
	}
	assert.Equal(t, depth, levels)
}

// nestedList is a result as gob encodes it.
func nestedList(t *testing.T, depth int) []byte {
	var text bytes.Buffer
	require.NoError(t, gob.NewEncoder(&text).Encode(struct{ Value list }{}))
	// The types, and then the value's message: its length, the type's number,
	// one byte that begins and one that ends each struct.
	value := []byte{0xff, 0x80, 1}
	require.True(t, bytes.HasSuffix(text.Bytes(), append([]byte{5}, append(value, 0, 0)...)), "%x", text.Bytes())
	value = append(value, bytes.Repeat([]byte{1}, depth)...)
	value = append(value, make([]byte, depth+2)...)
	message := append([]byte{0xfd, byte(len(value) >> 16), byte(len(value) >> 8), byte(len(value))}, value...)
	return append(text.Bytes()[:text.Len()-6], message...)
}

func TestCallSaysThatFunctionsAreMissing(t *testing.T) {
	_, err := live.Call[int](context.Background(), nil)
	assert.True(t, err != nil && !errors.Is(err, live.ErrNotPatched))
}
