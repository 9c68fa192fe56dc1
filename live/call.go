package live

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"forkshm.example/shm"
)

// CallConfig has the settings of [CallWith]. A nil CallConfig means all
// defaults, as [Call] has them.
type CallConfig struct {
	// Config has the child's settings, as for [GoWith].
	Config

	// Limit is the greatest length of an encoded result, in bytes. A child that
	// sends more is killed, and the error wraps [ErrTooLong]. Zero means 64 MiB.
	// If a T can contain another T or an interface, zero means 1 MiB, because a
	// decoder needs stack for each level.
	Limit int

	// Encode writes a result in the child, and Decode reads it in this process.
	// v is a T for Encode, and a *T for Decode. Nil means encoding/gob. Both are
	// nil, or neither.
	Encode func(w io.Writer, v any) error
	Decode func(r io.Reader, v any) error
}

// Call runs fn in a forked child, and returns what fn returned there. It waits
// for the child, and leaves none behind. The child ends when this process does.
//
// The result comes through a pipe, encoded by encoding/gob. So only the
// exported fields of a struct come back, and [gob.Register] must know the types
// in an interface. If fn returns an error, or panics, the error is a
// [*CallError]. If the child ends without an answer, the error is the
// [*shm.ExitError] of its end. With an error the result is T's zero value.
//
// If ctx ends first, Call kills and reaps the child. The error wraps ctx.Err().
//
// Call bounds what the child sends, and decodes it into a T and nothing else.
// So a child whose memory is damaged makes Call fail. The decoded value may
// take more memory than its encoding: up to [CallConfig.Limit] elements of T's
// largest slice or map.
//
// Call also fails with the errors of [Fork]. See fork(2), pipe(2).
func Call[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	return CallWith(ctx, fn, nil)
}

// CallWith is [Call] with settings: see [CallConfig].
func CallWith[T any](ctx context.Context, fn func() (T, error), config *CallConfig) (T, error) {
	var none, result T
	if fn == nil {
		return none, errNilFunc
	}
	c, err := newCaller(config, reflect.TypeFor[T]())
	if err != nil {
		return none, err
	}
	encoded, err := c.ask(ctx, func(w io.Writer) error {
		v, err := fn()
		if err != nil {
			return fnError{err}
		}
		if c.Encode != nil {
			return c.Encode(w, v)
		}
		return gob.NewEncoder(w).Encode(box[T]{v})
	})
	if err != nil {
		return none, err
	}
	err = decoding(func() error {
		if c.Decode != nil {
			return c.Decode(bytes.NewReader(encoded), &result)
		}
		var b box[T]
		err := gob.NewDecoder(bytes.NewReader(encoded)).Decode(&b)
		result = b.Value
		return err
	})
	if err != nil {
		return none, fmt.Errorf("live: call: decode a result of %d bytes: %w", len(encoded), err)
	}
	return result, nil
}

// box has gob take what it takes in a field alone, as a nil pointer.
type box[T any] struct{ Value T }

// decoding has a decoder that panics, as on bytes that nothing encoded, fail.
func decoding(decode func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return decode()
}

// caller is one call.
type caller struct{ CallConfig }

func newCaller(config *CallConfig, result reflect.Type) (*caller, error) {
	c := new(caller)
	if config != nil {
		c.CallConfig = *config
	}
	switch {
	case (c.Encode == nil) != (c.Decode == nil):
		return nil, errors.New("live: CallConfig has one of Encode and Decode, needs both or neither")
	case c.Limit < 0:
		return nil, fmt.Errorf("live: CallConfig.Limit is %d, must not be negative", c.Limit)
	case c.Limit > 0:
	case nests(result, nil):
		c.Limit = 1 << 20
	default:
		c.Limit = 64 << 20
	}
	return c, nil
}

// nests reports whether values of a type may be nested to any depth.
func nests(t reflect.Type, in []reflect.Type) bool {
	if slices.Contains(in, t) {
		return true
	}
	in = append(in, t)
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Map:
		return nests(t.Key(), in) || nests(t.Elem(), in)
	case reflect.Array, reflect.Pointer, reflect.Slice:
		return nests(t.Elem(), in)
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).IsExported() && nests(t.Field(i).Type, in) {
				return true
			}
		}
	}
	return false
}

// ask has a child run work, and returns what work wrote.
func (c *caller) ask(ctx context.Context, work func(io.Writer) error) ([]byte, error) {
	if err := canFork(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("live: call: %w", err)
	}
	p, err := newPipe()
	if err != nil {
		return nil, err
	}
	child, err := c.start(p, work)
	if err != nil {
		p.close()
		return nil, err
	}
	from := p.reader()
	sent := make(chan []byte, 1)
	go func() { sent <- c.read(from, child) }()

	exit := child.Wait(ctx)
	var stopped error
	if err := ctx.Err(); err != nil && exit == err {
		_ = child.Kill()
		exit = child.Wait(context.Background())
		if isKilled(exit) {
			stopped = fmt.Errorf("live: call: child %d is killed: %w", child.Pid(), err)
		}
	}
	from.writerIsGone()
	text := <-sent
	_ = from.Close()
	if stopped != nil {
		return nil, stopped
	}
	return c.understand(text, exit)
}

// start forks the child that runs work. The child sends its answer by the pipe.
func (c *caller) start(p *pipe, work func(io.Writer) error) (*shm.Process, error) {
	parent, err := openSelf()
	if err != nil {
		return nil, err
	}
	defer parent.close()
	if c.DropFDs {
		c.KeepFDs = append(slices.Clone(c.KeepFDs), p.w, parent.pidfd)
	}
	return GoWith(func() int { return answer(p, parent, work) }, &c.Config)
}

// most is how long an answer may be.
func (c *caller) most() int { return max(c.Limit+1, len(failure{}.header())+2*failureText) }

// read returns what the child sends. It kills one that sends too much.
func (c *caller) read(from io.Reader, child *shm.Process) []byte {
	// The error tells nothing that the text and the child's end do not.
	text, _ := io.ReadAll(io.LimitReader(from, int64(c.most())+1))
	if len(text) > c.most() {
		_ = child.Kill()
	}
	return text
}

// understand returns the result's encoding from a child's answer.
func (c *caller) understand(text []byte, exit error) ([]byte, error) {
	if len(text) > c.most() || len(text) > c.Limit+1 && text[0] == answered {
		return nil, fmt.Errorf("live: call: %w: more than %d bytes (see CallConfig.Limit)",
			ErrTooLong, c.Limit)
	}
	if len(text) > 0 && text[0] != answered {
		var f failure
		if f.parse(text) {
			return nil, f.error(exit)
		}
	}
	switch {
	case exit != nil:
		return nil, exit
	case len(text) == 0:
		return nil, errSilent
	case text[0] != answered:
		return nil, errGarbled
	}
	return text[1:], nil
}
