package shm

import (
	"fmt"
	"io"
)

// pieceSize is the most that another's Read or Write gets at once, in bytes.
const pieceSize = 128 << 10

// WriteTo writes all of the mapping to w, in pieces of at most 128 KiB. Each piece is copied first, and w gets the
// copy: no lock is held while w runs, and w meets no memory that fails. So w may use the mapping, and so may other
// goroutines. If Resize shrinks the mapping meanwhile, the rest is not written. If Close or MoveTo closes it, the error
// is ErrClosed. Memory that fails is a [FaultError]: all bytes before it were written.
func (m *Mapping) WriteTo(w io.Writer) (n int64, err error) {
	const op = "write out"
	length := int64(m.Len())
	piece := make([]byte, min(length, pieceSize))
	for {
		got, readErr := m.readAt(op, piece[:min(int64(len(piece)), length-n)], n)
		wrote, err := writePiece(w, piece[:got])
		n += int64(wrote)
		switch {
		case err != nil:
			return n, &Error{op, int(length), err}
		case readErr == io.EOF || readErr == nil && n == length:
			return n, nil
		case readErr != nil:
			return n, readErr
		}
	}
}

// ReadFrom reads from r until its end, into the mapping from its first byte on. Bytes beyond what r had stay as they
// are. r reads into other memory, at most 128 KiB at once, which is then copied: no lock is held while r runs, and r
// meets no memory that fails. So r may use the mapping, and so may other goroutines.
//
// If r has more than the mapping can hold the error is ErrRange, the mapping is full, and one byte of r is lost, or
// what was read at once if Resize shrinks the mapping meanwhile. If Close or MoveTo closes the mapping meanwhile, the
// error is ErrClosed. Memory that fails is a [FaultError]: the first n bytes were read.
func (m *Mapping) ReadFrom(r io.Reader) (n int64, err error) {
	const op = "read in"
	length, err := m.openLen(op)
	if err != nil {
		return 0, err
	}
	piece := make([]byte, min(length, pieceSize))
	for {
		room := piece[:max(min(int64(len(piece)), int64(length)-n), 1)] // once it is full, there may be more
		got, readErr := readPiece(r, room)
		if n == int64(length) && got > 0 {
			return n, &Error{op, length, fmt.Errorf("the source has more: %w", ErrRange)}
		}
		wrote, err := m.writeAt(op, room[:got], n)
		n += int64(wrote)
		switch {
		case err != nil:
			return n, err
		case readErr == io.EOF:
			return n, nil
		case readErr != nil:
			return n, &Error{op, length, readErr}
		}
	}
}

// openLen returns the length of a mapping that must not be closed.
func (m *Mapping) openLen(op string) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return 0, &Error{op, 0, ErrClosed}
	}
	return m.mem.length, nil
}

// countError is for a Read or Write that breaks the rules of [io.Reader] and [io.Writer].
type countError struct {
	who   string
	count int
}

func (e *countError) Error() string {
	return fmt.Sprintf("the %s returned a count of %d", e.who, e.count)
}

// readPiece calls another's Read, and looks at what it returns.
func readPiece(r io.Reader, p []byte) (n int, err error) {
	n, err = r.Read(p)
	if n < 0 || n > len(p) {
		return 0, &countError{"reader", n}
	}
	return n, err
}

// writePiece calls another's Write, if there is anything to write, and looks at what it returns.
func writePiece(w io.Writer, p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err = w.Write(p)
	switch {
	case n < 0 || n > len(p):
		return 0, &countError{"writer", n}
	case err == nil && n < len(p):
		return n, io.ErrShortWrite
	}
	return n, err
}
