package shm

import (
	"fmt"
	"io"
)

// pieceSize is the most that a caller's Read or Write gets at once, in bytes.
const pieceSize = 128 << 10

// WriteTo writes the whole mapping to w, in pieces of at most 128 KiB. WriteTo
// copies each piece out of the mapping first, and gives w the copy. While w
// runs, WriteTo holds no lock: w and other goroutines may use the mapping.
//
// If Resize shrinks the mapping meanwhile, WriteTo ends at the new length,
// without an error. If Close or MoveTo closes the mapping meanwhile, the error
// is ErrClosed. If memory of the mapping fails, the error is a [FaultError],
// and all bytes before that memory were written.
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

// ReadFrom reads from r until io.EOF, into the mapping, beginning at its first
// byte. The bytes of the mapping behind what r had stay as they are. r reads
// into other memory, at most 128 KiB at once, and ReadFrom copies that into the
// mapping. While r runs, ReadFrom holds no lock: r and other goroutines may use
// the mapping.
//
// If r has more bytes than the mapping, the mapping is filled, the error is
// ErrRange, and one byte of r is lost. If Resize shrinks the mapping meanwhile,
// a piece that does not fit any more is ErrRange, and is lost. If Close or
// MoveTo closes the mapping meanwhile, the error is ErrClosed. If memory of the
// mapping fails, the error is a [FaultError], and the first n bytes were read.
func (m *Mapping) ReadFrom(r io.Reader) (n int64, err error) {
	const op = "read in"
	length, err := m.openLen(op)
	if err != nil {
		return 0, err
	}
	piece := make([]byte, min(length, pieceSize))
	for {
		// When the mapping is full, one byte more is read: r must have none.
		rest := piece[:max(min(int64(len(piece)), int64(length)-n), 1)]
		got, readErr := readPiece(r, rest)
		if n == int64(length) && got > 0 {
			return n, &Error{op, length, fmt.Errorf("the reader has more than the mapping: %w", ErrRange)}
		}
		wrote, err := m.writeAt(op, rest[:got], n)
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

// openLen returns the length of the mapping, or ErrClosed.
func (m *Mapping) openLen(op string) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return 0, &Error{op, 0, ErrClosed}
	}
	return m.mem.length, nil
}

// countError is the error for a Read or Write that returns an impossible count.
type countError struct {
	who   string
	count int
}

func (e *countError) Error() string {
	return fmt.Sprintf("the %s returned a count of %d", e.who, e.count)
}

// readPiece calls Read of a caller's type, and checks the count.
func readPiece(r io.Reader, p []byte) (n int, err error) {
	n, err = r.Read(p)
	if n < 0 || n > len(p) {
		return 0, &countError{"reader", n}
	}
	return n, err
}

// writePiece calls Write of a caller's type if p has bytes, and checks the
// count.
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
