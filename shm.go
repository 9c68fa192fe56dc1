package shm

import (
	"fmt"
	"io"
	"math"
	"reflect"
	"runtime"
	"sync"
	"unsafe"

	"forkshm.example/shm/internal/hook"
)

// DefaultTechnique returns the default technique of this build: DevZero with
// the build tag devzero, and Anonymous without the tag. A build without cgo has
// no technique, and DefaultTechnique returns BuildDefault.
func DefaultTechnique() Technique { return defaultTechnique }

// Mapping is memory outside the Go heap. A new mapping is readable and
// writable, its address is page-aligned, and its bytes are zero.
//
// [Mapping.Close] unmaps the memory. The memory is also unmapped when the
// Mapping is unreachable. What Bytes, Addr, At and Slice returned does not keep
// the Mapping reachable. So a program that last uses the memory in this way
// must close the mapping afterwards, or call runtime.KeepAlive(m).
//
// Several goroutines may call methods of one Mapping at the same time.
type Mapping struct {
	sharing   Sharing
	technique Technique

	mu      sync.RWMutex // write-locked by methods that change mem or unmap
	mem     *memory      // nil after Close
	cleanup runtime.Cleanup
}

// Map maps length bytes of new memory. A nil cfg means all defaults. The length
// must be at least 1, and need not be a multiple of the page size: Len returns
// the same length, and the kernel maps whole pages. The bytes of the last page
// beyond Len belong to the mapping. If the kernel refuses, the error is EINVAL
// or ENOMEM for example. See mmap(2).
func Map(sharing Sharing, length int, cfg *Config) (*Mapping, error) {
	const op = "map"
	if cfg == nil {
		cfg = new(Config)
	}
	technique := cfg.Technique
	if technique == BuildDefault {
		technique = DefaultTechnique()
	}
	mem, err := newMemory(technique, sharing, length, cfg)
	if err != nil {
		return nil, &Error{op, length, err}
	}
	return newMappingOf(sharing, technique, mem), nil
}

func newMappingOf(sharing Sharing, technique Technique, mem *memory) *Mapping {
	m := &Mapping{sharing: sharing, technique: technique, mem: mem}
	m.cleanup = runtime.AddCleanup(m, func(mem *memory) { _ = mem.unmap() }, mem)
	return m
}

func init() {
	hook.View = func(m any, f func(unsafe.Pointer, int)) bool { return m.(*Mapping).view(f) }
}

// view calls f with the memory, and reports whether there is any.
func (m *Mapping) view(f func(addr unsafe.Pointer, length int)) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return false
	}
	f(m.mem.addr, m.mem.length)
	return true
}

// Bytes returns the mapping's memory, or nil if the mapping is closed. The
// slice is valid until MoveTo, Close, or a Resize that moves or shrinks the
// mapping. Using the slice later crashes the program, or reads or damages
// memory of another owner.
//
// An access to a valid slice crashes the program if the memory itself fails,
// see [FaultError]. ReadAt, WriteAt, ReadFrom and WriteTo return an error
// instead.
func (m *Mapping) Bytes() []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return nil
	}
	return unsafe.Slice((*byte)(m.mem.addr), m.mem.length)
}

// Len returns the length of the mapping in bytes, as Map or Resize was given
// it, or 0 if the mapping is closed.
func (m *Mapping) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return 0
	}
	return m.mem.length
}

// Addr returns the address of the mapping, or nil if the mapping is closed. The
// address is valid as long as Bytes is.
func (m *Mapping) Addr() unsafe.Pointer {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return nil
	}
	return m.mem.addr
}

// Sharing returns the sharing that the mapping was made with.
func (m *Mapping) Sharing() Sharing { return m.sharing }

// Technique returns the technique that the mapping was made with, which is
// never BuildDefault.
func (m *Mapping) Technique() Technique { return m.technique }

// Huge returns the kind of pages that the mapping was made with. If Map was
// asked for HugeExplicit, and the machine had too few huge pages left, Huge
// returns HugeNone. [Mapping.Stats] has the number of bytes in huge pages at
// the moment.
func (m *Mapping) Huge() HugePages {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return HugeNone
	}
	return m.mem.huge
}

// ReadAt copies bytes of the mapping to p, beginning at off, as [io.ReaderAt]
// specifies. If fewer than len(p) bytes follow, ReadAt copies those and returns
// io.EOF. If off is negative, the error is ErrRange. If memory of the mapping
// or of p fails, the error is a [FaultError]: n bytes were read, and bytes of p
// behind them may be overwritten.
func (m *Mapping) ReadAt(p []byte, off int64) (int, error) { return m.readAt("read", p, off) }

func (m *Mapping) readAt(op string, p []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	switch {
	case m.mem == nil:
		return 0, &Error{op, len(p), ErrClosed}
	case off < 0:
		return 0, m.rangeError(op, len(p), off)
	case off >= int64(m.mem.length):
		return 0, io.EOF
	}
	n, err := copyMapped(p, unsafe.Slice((*byte)(m.mem.addr), m.mem.length)[off:])
	switch {
	case err != nil:
		return n, &Error{op, len(p), err}
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// WriteAt copies p to the mapping, beginning at off. If p does not fit, WriteAt
// copies nothing, and the error is ErrRange. If memory of the mapping or of p
// fails, the error is a [FaultError]: n bytes were written, and bytes behind
// them may be overwritten. If p overlaps the bytes written to, n is 0 after a
// FaultError, and any of these bytes may be overwritten.
func (m *Mapping) WriteAt(p []byte, off int64) (int, error) { return m.writeAt("write", p, off) }

func (m *Mapping) writeAt(op string, p []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	switch {
	case m.mem == nil:
		return 0, &Error{op, len(p), ErrClosed}
	case off < 0 || off > int64(m.mem.length)-int64(len(p)):
		return 0, m.rangeError(op, len(p), off)
	}
	n, err := copyMapped(unsafe.Slice((*byte)(m.mem.addr), m.mem.length)[off:], p)
	if err != nil {
		return n, &Error{op, len(p), err}
	}
	return n, nil
}

// At returns a pointer to the T at byte offset off. The pointer is valid as
// long as Bytes is. The error is ErrType if T holds Go pointers, ErrRange if
// the T does not lie within the mapping, and ErrAlign if the address is not
// aligned for T.
func At[T any](m *Mapping, off int) (*T, error) {
	var t T
	p, err := m.checkedPointer("access", reflect.TypeFor[T](), off, int(unsafe.Sizeof(t)))
	return (*T)(p), err
}

// Slice returns n values of type T, beginning at byte offset off. The slice is
// valid as long as Bytes is. The errors are those of [At].
func Slice[T any](m *Mapping, off, n int) ([]T, error) {
	const op = "access"
	var t T
	size := int(unsafe.Sizeof(t))
	if n < 0 || size > 0 && n > math.MaxInt/size {
		return nil, &Error{"slice", 0, fmt.Errorf("%d elements of %d bytes at offset %d: %w",
			n, size, off, ErrRange)}
	}
	p, err := m.checkedPointer(op, reflect.TypeFor[T](), off, n*size)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*T)(p), n), nil
}

// checkedPointer returns the address of size bytes at off, if they may be used
// as values of type t.
func (m *Mapping) checkedPointer(op string, t reflect.Type, off, size int) (unsafe.Pointer, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	switch {
	case m.mem == nil:
		return nil, &Error{op, size, ErrClosed}
	case !pointerFree(t):
		return nil, &Error{op, size, fmt.Errorf("%v: %w", t, ErrType)}
	case off < 0 || off > m.mem.length-size:
		return nil, m.rangeError(op, size, int64(off))
	}
	p := unsafe.Add(m.mem.addr, off)
	if uintptr(p)%uintptr(t.Align()) != 0 {
		return nil, &Error{op, size, fmt.Errorf("%v at offset %d: %w, must be a multiple of %d",
			t, off, ErrAlign, t.Align())}
	}
	return p, nil
}

func (m *Mapping) rangeError(op string, n int, off int64) error {
	return &Error{op, n, fmt.Errorf("offset %d: %w of a mapping of %d bytes",
		off, ErrRange, m.mem.length)}
}

// pointerFree reports whether values of type t have no Go pointers.
func pointerFree(t reflect.Type) bool {
	switch k := t.Kind(); k {
	case reflect.Array:
		return t.Len() == 0 || pointerFree(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !pointerFree(t.Field(i).Type) {
				return false
			}
		}
		return true
	default:
		return reflect.Bool <= k && k <= reflect.Complex128
	}
}

// Close unmaps the memory. A second call returns ErrClosed. See munmap(2).
func (m *Mapping) Close() error {
	const op = "close"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return &Error{op, 0, ErrClosed}
	}
	if err := m.mem.unmap(); err != nil {
		return &Error{op, m.mem.length, err}
	}
	m.markClosed()
	return nil
}

// markClosed marks the mapping as closed. Its memory is unmapped, or belongs to
// another mapping.
func (m *Mapping) markClosed() {
	m.cleanup.Stop()
	m.mem.closeObject()
	m.mem = nil
}
