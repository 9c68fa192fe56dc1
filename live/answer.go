package live

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"
)

// What a child of a call sends: one of these, and then the result or a failure.
const (
	answered = 'v' // the result follows
	failed   = 'e' // the function, or the encoder, returned an error
	panicked = 'p' // the function did not return
)

// failureText bounds the texts of a failure, in bytes.
const failureText = 64 << 10

// failure is a call that failed, as it is sent: its header, the message, and the
// trace up to the end.
type failure struct {
	kind    byte
	errno   syscall.Errno
	message string
	trace   string
}

func (f failure) header() []byte {
	header := []byte{f.kind}
	header = binary.LittleEndian.AppendUint32(header, uint32(f.errno))
	return binary.LittleEndian.AppendUint32(header, uint32(len(f.message)))
}

func (f failure) text() []byte {
	f.message = f.message[:min(len(f.message), failureText)]
	f.trace = f.trace[:min(len(f.trace), failureText)]
	return append(f.header(), f.message+f.trace...)
}

// parse reports false if that is no failure.
func (f *failure) parse(text []byte) bool {
	f.kind = text[0]
	if f.kind != failed && f.kind != panicked || len(text) < len(f.header()) {
		return false
	}
	f.errno = syscall.Errno(binary.LittleEndian.Uint32(text[1:]))
	length := binary.LittleEndian.Uint32(text[5:])
	rest := text[len(f.header()):]
	if uint64(length) > uint64(len(rest)) {
		return false
	}
	f.message, f.trace = string(rest[:length]), string(rest[length:])
	return true
}

func (f failure) error(exit error) error {
	return &CallError{Message: f.message, Trace: f.trace, Err: exit, errno: f.errno}
}

// fnError is an error of the caller's function. Others are of the encoder.
type fnError struct{ error }

func (e fnError) Unwrap() error { return e.error }

// answer is the child's part of a call: it sends what work writes, or how work
// failed. It returns the exit status.
func answer(p *pipe, parent self, work func(io.Writer) error) int {
	to := os.NewFile(uintptr(p.w), "pipe")
	if err := whileParentLives(parent, func() { os.Exit(1) }); err != nil {
		return 1
	}
	text := bytes.NewBuffer([]byte{answered})
	returned := false
	defer func() {
		if returned {
			return
		}
		f := failure{kind: panicked, message: "runtime.Goexit was called"}
		if v := recover(); v != nil {
			f.message = fmt.Sprintf("panic: %v", v)
		}
		f.trace = string(debug.Stack())
		_, _ = to.Write(f.text())
		os.Exit(2)
	}()
	err := work(text)
	returned = true
	if err != nil {
		f := failure{kind: failed, message: err.Error()}
		if !errors.As(err, new(fnError)) {
			f.message = "encode the result: " + f.message
		}
		_ = errors.As(err, &f.errno)
		text = bytes.NewBuffer(f.text())
	}
	if _, err := to.Write(text.Bytes()); err != nil {
		return 1
	}
	exit0()
	return 0
}
