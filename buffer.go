package shm

import (
	"fmt"
	"io"
	"math"
	"os"
	"unsafe"
)

// Buffer is bytes outside the Go heap, appended to without ever being copied: what [append] and
// [bytes.Buffer] do by a new array and a copy, it does by moving pages, as realloc(3) does. Memory
// is used for the bytes that it holds, not for its capacity, and the garbage collector has no part
// in it.
//
// The zero value is empty and ready to use. It must not be copied after first use, and, as
// bytes.Buffer, not be used by several goroutines at once. Close gives its memory back; that of a
// Buffer that was forgotten goes when it is unreachable, as a [Mapping]'s does.
//
// Memory that fails is an error, see [FaultError].
type Buffer struct {
	_      noCopy
	m      *Mapping // nil at first, and once closed
	length int      // of m, the bytes in use
	closed bool
}

// noCopy makes go vet report copies.
type noCopy struct{}

func (*noCopy) Lock() {}

func (*noCopy) Unlock() {}

// bufferFirst is the least that is mapped, in bytes. Pages are allocated when they are written to.
const bufferFirst = 64 << 10

// Bytes returns what was written. The slice is valid until the next call that writes, reads into,
// grows or closes the buffer: used after that it crashes the program, or worse, finds other memory
// there. It does not keep the Buffer alive. Appending to it copies it to the Go heap.
func (b *Buffer) Bytes() []byte { return b.memory()[:b.length:b.length] }

// memory returns all that is mapped.
func (b *Buffer) memory() []byte {
	if b.m == nil {
		return nil
	}
	return unsafe.Slice((*byte)(b.m.mem.addr), b.m.mem.length) // b is its only user: no lock is needed
}

// Len returns how many bytes the buffer holds.
func (b *Buffer) Len() int { return b.length }

// Cap returns how many bytes it can hold without asking the kernel. Those beyond Len use address
// space and no memory, unless they were in use before.
func (b *Buffer) Cap() int { return len(b.memory()) }

// Grow makes room for n more bytes, so that writing them neither fails for want of address space
// nor moves the buffer. It fails with ErrRange where n is negative or too large for an int, and as
// [Mapping.Resize] does; then the buffer is as it was.
func (b *Buffer) Grow(n int) error {
	const op = "grow"
	switch {
	case b.closed:
		return &Error{op, n, ErrClosed}
	case n < 0 || n > math.MaxInt-b.length:
		return &Error{op, n, fmt.Errorf("%w of a buffer of %d bytes", ErrRange, b.length)}
	case n <= b.Cap()-b.length:
		return nil
	}
	need := b.length + n
	if page := os.Getpagesize(); need <= math.MaxInt-page {
		need = (need + page - 1) &^ (page - 1)
	}
	roomy := max(need, bufferFirst)
	if b.Cap() <= math.MaxInt/2 {
		roomy = max(roomy, 2*b.Cap())
	}
	err := b.resize(roomy)
	if err != nil && roomy > need { // doubled is too much: there may be room for what is needed
		err = b.resize(need)
	}
	return err
}

func (b *Buffer) resize(length int) (err error) {
	if b.m != nil {
		return b.m.Resize(length, MayMove)
	}
	b.m, err = Map(Private, length, nil)
	return err
}

// Write appends p, which may be a part of the buffer itself. On an error, the n bytes that it
// returns were appended.
func (b *Buffer) Write(p []byte) (n int, err error) { return b.write("write", p) }

func (b *Buffer) write(op string, p []byte) (n int, err error) {
	if b.closed {
		return 0, &Error{op, len(p), ErrClosed}
	}
	if len(p) > b.Cap()-b.length {
		old := b.memory()
		if err := b.Grow(len(p)); err != nil {
			return 0, err
		}
		if at := addrOf(p) - addrOf(old); at < uintptr(len(old)) && len(p) <= len(old)-int(at) { // it moved with the buffer
			p = b.memory()[at:][:len(p)]
		}
	}
	n, err = copyMapped(b.memory()[b.length:], p)
	b.length += n
	if err != nil {
		return n, &Error{op, len(p), err}
	}
	return n, nil
}

// WriteString appends s, as Write does.
func (b *Buffer) WriteString(s string) (n int, err error) {
	return b.Write(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// WriteByte appends c.
func (b *Buffer) WriteByte(c byte) error {
	_, err := b.Write([]byte{c})
	return err
}

// ReadFrom appends what r has, until io.EOF. r reads into other memory, at most
// 128 KiB at once, which is then appended: r meets no memory that fails.
func (b *Buffer) ReadFrom(r io.Reader) (n int64, err error) {
	const op = "read into"
	if b.closed {
		return 0, &Error{op, 0, ErrClosed}
	}
	piece := make([]byte, pieceSize/32)
	for {
		got, readErr := readPiece(r, piece)
		wrote, err := b.write(op, piece[:got])
		n += int64(wrote)
		switch {
		case err != nil:
			return n, err
		case readErr == io.EOF:
			return n, nil
		case readErr != nil:
			return n, b.errorOf(op, len(piece), readErr)
		}
		if got == len(piece) && got < pieceSize {
			piece = make([]byte, pieceSize)
		}
	}
}

// WriteTo writes all that the buffer holds to w, in pieces of at most 128 KiB.
// The buffer keeps it. Each piece is copied first, and w gets the copy: w meets
// no memory that fails. If the buffer's memory fails, all bytes before that
// were written.
func (b *Buffer) WriteTo(w io.Writer) (n int64, err error) {
	const op = "write out"
	length := int64(b.length)
	if b.closed {
		return 0, &Error{op, 0, ErrClosed}
	}
	piece := make([]byte, min(length, pieceSize))
	for n < min(length, int64(b.length)) { // w may have changed the buffer
		got, readErr := copyMapped(piece[:min(int64(len(piece)), length-n)], b.Bytes()[n:])
		wrote, err := writePiece(w, piece[:got])
		n += int64(wrote)
		if err != nil {
			return n, b.errorOf(op, int(length), err)
		}
		if readErr != nil {
			return n, &Error{op, int(length), readErr}
		}
	}
	return n, nil
}

// errorOf returns what the error of another's Read or Write is reported as.
func (b *Buffer) errorOf(op string, length int, err error) error {
	if _, ok := err.(*countError); ok {
		return &Error{op, length, err}
	}
	return err
}

// Truncate drops all but the first n bytes. The memory behind them is kept for what is written
// next. It fails with ErrRange if n is negative or greater than Len.
func (b *Buffer) Truncate(n int) error {
	const op = "truncate"
	switch {
	case b.closed:
		return &Error{op, n, ErrClosed}
	case n < 0 || n > b.length:
		return &Error{op, n, fmt.Errorf("%w of a buffer of %d bytes", ErrRange, b.length)}
	}
	b.length = n
	return nil
}

// Reset drops all bytes, and keeps the memory for what is written next. A closed buffer stays so.
func (b *Buffer) Reset() { b.length = 0 }

// Close gives the memory back. The buffer is of no use after that: what can fail does so with
// ErrClosed, the second Close too.
func (b *Buffer) Close() error {
	const op = "close"
	if b.closed {
		return &Error{op, 0, ErrClosed}
	}
	if b.m != nil {
		if err := b.m.Close(); err != nil {
			return err
		}
	}
	b.m, b.length, b.closed = nil, 0, true
	return nil
}
