// Package shm gives a Go program the real mmap, fork, waitpid and mremap: private and shared
// anonymous memory, a true fork(2) whose child shares it because it inherited it, and growth by
// mremap(2). It needs Linux and cgo.
//
// A [Mapping] is memory outside the Go heap, made by MAP_ANONYMOUS or by mapping /dev/zero, the two
// techniques of The Linux Programming Interface, section 49.7, or of a memfd, which can grow shared. The build tag
// devzero makes the second one the default, as leaving out USE_MAP_ANON does in the book.
// [Mapping.Fork] runs a C function in a forked child, over the same memory:
//
//	m, err := shm.Map(shm.Shared, 4096, nil)
//	...
//	child, err := m.Fork(shm.ChildFunc(C.work), nil) // int work(void *addr, size_t length)
//	...
//	err = child.Wait(ctx) // nil: it ended with status 0
//
// The child is C alone. The Go runtime does not survive a fork, so the child's function must not
// call back into Go, and the child ends in _exit(2) with what the function returns: flush what it
// prints. Of the parent's threads only the one that forked exists in it. A lock held by another
// thread at the fork stays held; malloc and stdio are usable, since the C library looks after
// their locks. It inherits every open descriptor, as fork(2) has it.
//
// A Mapping's methods may be called from several goroutines at once. What [Mapping.Bytes], [At]
// and [Slice] return is plain memory: it is for the caller to keep it from being used after the
// mapping moved or went, and to order accesses between goroutines and processes (sync/atomic
// works across processes). The race detector does not see this memory.
//
// [Mmap], [Munmap], [Mremap], [Fork] and [Waitpid] are the calls as C has them, for parity with C:
// nothing is refused first, nothing is looked after.
package shm

import (
	"fmt"
	"io"
	"math"
	"reflect"
	"runtime"
	"sync"
	"unsafe"
)

// DefaultTechnique returns what this build selected: DevZero with the build tag devzero,
// Anonymous without it, and BuildDefault where the build has no C shim at all.
func DefaultTechnique() Technique { return defaultTechnique }

// Mapping is anonymous memory outside the Go heap, readable and writable, page-aligned and
// zero-filled at first.
//
// It lives until [Mapping.Close], or until the Mapping itself is unreachable: memory obtained from
// it does not keep it alive. Where a mapping's last use is through such memory, close it
// afterwards, or end with runtime.KeepAlive(m).
type Mapping struct {
	sharing   Sharing
	technique Technique

	mu      sync.RWMutex // written by what moves, resizes or unmaps
	mem     *memory      // nil once closed
	cleanup runtime.Cleanup
}

// Map maps length bytes of new memory. A nil cfg means all defaults.
//
// The length need not be a multiple of the page size: Len is what was asked for, and the kernel
// maps whole pages. See mmap(2).
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

// Bytes returns the mapping's memory, nil once it is closed. The slice is valid until the next
// Resize that moves or shrinks, MoveTo or Close: used after that it crashes the program, or worse,
// finds other memory there. Valid, it still crashes the program where the memory itself fails, see
// [FaultError]; ReadAt, WriteAt, ReadFrom and WriteTo do not.
func (m *Mapping) Bytes() []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return nil
	}
	return unsafe.Slice((*byte)(m.mem.addr), m.mem.length)
}

// Len returns the mapping's length in bytes, as it was asked for; 0 once it is closed.
func (m *Mapping) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return 0
	}
	return m.mem.length
}

// Addr returns where the mapping begins, nil once it is closed. It is valid as long as Bytes is.
func (m *Mapping) Addr() unsafe.Pointer {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return nil
	}
	return m.mem.addr
}

// Sharing returns what the mapping was made with.
func (m *Mapping) Sharing() Sharing { return m.sharing }

// Technique returns how the mapping was made: never BuildDefault.
func (m *Mapping) Technique() Technique { return m.technique }

// Huge returns what kind of pages the mapping was had with: HugeNone where HugeExplicit was asked for
// and the machine had none left. How many are huge at the moment is in Stats.
func (m *Mapping) Huge() HugePages {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mem == nil {
		return HugeNone
	}
	return m.mem.huge
}

// ReadAt copies from the mapping, as [io.ReaderAt] has it: at the end it returns what there is
// and io.EOF. A negative offset is ErrRange. Memory that fails, the mapping's or p's own, is a
// [FaultError] and not a crash: n bytes were read, and of p behind them some may be written.
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

// WriteAt copies into the mapping, all of p or, where it does not fit, nothing: then the error is
// ErrRange. Memory that fails, the mapping's or p's own, is a [FaultError] and not a crash: n bytes
// were written, and of the mapping behind them some may be. Where p lies in the same bytes, n is 0
// then, and any of them may be written.
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

// At returns a pointer to the T at byte offset off, valid as long as Bytes is. T must hold no Go
// pointers (ErrType), lie within the mapping (ErrRange) and be aligned (ErrAlign).
func At[T any](m *Mapping, off int) (*T, error) {
	var t T
	p, err := m.checkedPointer("access", reflect.TypeFor[T](), off, int(unsafe.Sizeof(t)))
	return (*T)(p), err
}

// Slice returns the n Ts from byte offset off on, valid as long as Bytes is. The rules are At's.
func Slice[T any](m *Mapping, off, n int) ([]T, error) {
	const op = "access"
	var t T
	size := int(unsafe.Sizeof(t))
	if n < 0 || size > 0 && n > math.MaxInt/size {
		return nil, &Error{"slice", 0, fmt.Errorf("%d elements of %d bytes at offset %d: %w", n, size, off, ErrRange)}
	}
	p, err := m.checkedPointer(op, reflect.TypeFor[T](), off, n*size)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*T)(p), n), nil
}

// view returns the address of size bytes at off, once they may be used as Ts.
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
		return nil, &Error{op, size, fmt.Errorf("%v at offset %d: %w, must be a multiple of %d", t, off, ErrAlign, t.Align())}
	}
	return p, nil
}

func (m *Mapping) rangeError(op string, n int, off int64) error {
	return &Error{op, n, fmt.Errorf("offset %d: %w of a mapping of %d bytes", off, ErrRange, m.mem.length)}
}

// pointerFree says whether the garbage collector would find no pointer in a t.
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

// Close unmaps the memory. The second call returns ErrClosed. See munmap(2).
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

// forget marks the mapping as closed, its memory being gone or another's.
func (m *Mapping) markClosed() {
	m.cleanup.Stop()
	m.mem.closeObject()
	m.mem = nil
}
