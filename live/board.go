package live

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
)

// board is what a child tells its parent in memory that they share.
type board struct {
	written, copied atomic.Int64
	done            atomic.Uint32 // the snapshot is complete
	errno           atomic.Uint32 // that the error wraps, if any
	said            atomic.Uint32 // bytes of message; set last
	message         [3 << 10]byte
}

// run runs work in the child, and returns its exit status.
func (b *board) run(work func() error) int {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			b.fail(fmt.Errorf("panic: %v", v))
			panic(v)
		}
		b.fail(errors.New("runtime.Goexit was called"))
		os.Exit(1)
	}()
	err := work()
	returned = true
	if err != nil {
		b.fail(err)
		return 1
	}
	b.done.Store(1)
	exit0()
	return 0
}

// exit0 exits. In tests os.Exit(0) panics.
func exit0() {
	defer func() {
		if recover() != nil {
			syscall.Exit(0)
		}
	}()
	os.Exit(0)
}

func (b *board) fail(err error) {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		b.errno.Store(uint32(errno))
	}
	b.said.Store(uint32(copy(b.message[:], err.Error())))
}

// encode writes what encode does to f.
func (b *board) encode(f *os.File, encode func(io.Writer) error) error {
	w := bufio.NewWriterSize(&counter{f, &b.written}, 256<<10)
	if err := encode(w); err != nil {
		return err
	}
	return w.Flush()
}

type counter struct {
	w io.Writer
	n *atomic.Int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}
