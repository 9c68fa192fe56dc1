package shm

import (
	"fmt"
	"io"
	"math"
	"os"
	"unsafe"
)

// Buffer is an append buffer outside the Go heap. To grow, append and
// [bytes.Buffer] copy their bytes to a new array. A Buffer moves its pages
// instead, as realloc(3) does. A Buffer takes memory for the bytes that it
// holds, and only address space for the rest of its capacity. The garbage
// collector does not see its memory.
//
// The zero value is empty and ready to use. A Buffer must not be copied after
// its first use. Several goroutines must not use a Buffer at the same time.
// Close gives the memory back. The memory of a Buffer that is not closed is
// given back when the Buffer is unreachable, as that of a [Mapping] is.
//
// If memory fails, methods return a [FaultError] and do not crash.
type Buffer struct {
	_      noCopy
	m      *Mapping // nil before the first byte and after Close
	length int      // the bytes of m that are in use
	closed bool
}

// noCopy makes go vet report copies.
type noCopy struct{}

func (*noCopy) Lock() {}

func (*noCopy) Unlock() {}

// bufferFirst is the least size of a buffer's mapping, in bytes. The kernel
// allocates a page at the first write to it.
const bufferFirst = 64 << 10

// Bytes returns the bytes that the buffer holds. The slice is valid until the
// next call of Write, WriteString, WriteByte, ReadFrom, Grow or Close. Using
// the slice later crashes the program, or reads or damages memory of another
// owner. The slice does not keep the Buffer alive. Appending to the slice
// copies it to the Go heap.
func (b *Buffer) Bytes() []byte { return b.memory()[:b.length:b.length] }

// memory returns all bytes of the mapping.
func (b *Buffer) memory() []byte {
	if b.m == nil {
		return nil
	}
	// Only b uses m, so no lock is needed.
	return unsafe.Slice((*byte)(b.m.mem.addr), b.m.mem.length)
}

// Len returns the number of bytes that the buffer holds.
func (b *Buffer) Len() int { return b.length }

// Cap returns the number of bytes that the buffer can hold without growing. The
// bytes beyond Len take address space, and no memory unless they were in use
// before.
func (b *Buffer) Cap() int { return len(b.memory()) }

// Grow makes the capacity large enough for n more bytes. Writing these bytes
// then neither moves the buffer nor fails for lack of address space. If n is
// negative, or the new length does not fit an int, the error is ErrRange. Grow
// also fails as [Mapping.Resize] does. A call that fails changes nothing.
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
	capacity := max(need, bufferFirst)
	if b.Cap() <= math.MaxInt/2 {
		capacity = max(capacity, 2*b.Cap())
	}
	err := b.resize(capacity)
	if err != nil && capacity > need { // less may be available than double the capacity
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

// Write appends p. The slice p may be a part of the buffer itself. After an
// error, the first n bytes of p are appended.
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
		// If p lies in the buffer, p moved with it.
		if at := addrOf(p) - addrOf(old); at < uintptr(len(old)) && len(p) <= len(old)-int(at) {
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

// WriteString appends s. The errors are those of Write.
func (b *Buffer) WriteString(s string) (n int, err error) {
	return b.Write(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// WriteByte appends c. The errors are those of Write.
func (b *Buffer) WriteByte(c byte) error {
	_, err := b.Write([]byte{c})
	return err
}

// ReadFrom reads from r until io.EOF, and appends what it read. r reads into
// other memory, at most 128 KiB at once, and ReadFrom copies that into the
// buffer. After an error, n bytes are appended.
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

// WriteTo writes the bytes of the buffer to w, in pieces of at most 128 KiB.
// The buffer keeps the bytes. WriteTo copies each piece out of the buffer
// first, and gives w the copy. If memory of the buffer fails, the error is a
// [FaultError], and all bytes before that memory were written.
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

// errorOf returns an error of a caller's Read or Write as it is, and wraps an
// impossible count.
func (b *Buffer) errorOf(op string, length int, err error) error {
	if _, ok := err.(*countError); ok {
		return &Error{op, length, err}
	}
	return err
}

// Truncate drops all bytes but the first n. The buffer keeps its memory for
// later writes. If n is negative or greater than Len, the error is ErrRange.
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

// Reset drops all bytes. The buffer keeps its memory for later writes. A closed
// buffer stays closed.
func (b *Buffer) Reset() { b.length = 0 }

// Close gives the memory back. After Close the buffer is empty, and methods
// that return an error return ErrClosed, a second Close included.
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
