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

// board is shared memory in which a child tells its parent how a snapshot goes.
type board struct {
	written, copied atomic.Int64
	done            atomic.Uint32 // 1 once the snapshot is complete
	errno           atomic.Uint32 // the errno that the error wraps, or 0
	said            atomic.Uint32 // length of message in bytes; set last
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

// exit0 exits with status 0. In a test os.Exit(0) panics.
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

// encode calls encode with a writer to f.
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
