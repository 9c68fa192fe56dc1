package shm

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Do has an idle child run work(in, length, out), and returns a copy of the
// answer that work has made by shm_out_reserve of shm_child.h. The child works
// on a copy of in. For example, with a C function that parses its input:
//
//	int parse(const void *in, size_t in_length, struct shm_out *out);
//
//	out, err := pool.Do(ctx, shm.DoFunc(C.parse), in)
//
// If work does not return 0, the error is a [*ResultError]. If in is longer
// than PoolConfig.MaxIn, the error wraps [ErrRange]. All else is as with
// [Pool.Call]: calls wait for an idle child, a crash or a missed deadline ends
// the child, and the child is replaced.
//
// Each child has memory of its own for in and out, which no other child can
// reach. A child that was taken over can return any bytes, up to
// PoolConfig.MaxOut. Of each part of that memory, one MiB stays with the child
// between calls. What a larger call used is given back to the kernel.
func (p *Pool) Do(ctx context.Context, work DoFunc, in []byte) ([]byte, error) {
	var out []byte
	err := p.do(ctx, work, in, func(answer []byte) error {
		out = slices.Clone(answer)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// DoView is [Pool.Do] without the copy of the answer: DoView calls view with
// the answer, where the child wrote it. out is valid until view returns. view
// must not write to out. If view returns an error, DoView returns that error.
//
// The child serves no other call before view returns. But a child that was
// taken over can change the bytes of out while view reads them. So view must
// copy what it checks, before it checks it. Do never has that problem. view
// must not close the pool.
func (p *Pool) DoView(ctx context.Context, work DoFunc, in []byte,
	view func(out []byte) error) error {

	if view == nil {
		err := fmt.Errorf("view is nil, must be a function: %w", unix.EINVAL)
		return &Error{"do", len(in), err}
	}
	var viewErr error
	err := p.do(ctx, work, in, func(answer []byte) error {
		viewErr = view(answer)
		return nil
	})
	if err != nil {
		return err
	}
	return viewErr
}

// do makes a call with bytes in and bytes out.
func (p *Pool) do(ctx context.Context, work DoFunc, in []byte,
	use func(answer []byte) error) error {

	defer runtime.KeepAlive(p)
	const op = "do"
	err := p.checkFunction(unsafe.Pointer(work))
	if err == nil && len(in) > p.cfg.MaxIn {
		err = fmt.Errorf("PoolConfig.MaxIn is %d: %w", p.cfg.MaxIn, ErrRange)
	}
	if err == nil {
		err = p.run(ctx, &task{
			job: job{kind: requestDo, function: unsafe.Pointer(work), length: uintptr(len(in))},
			in:  in,
			use: func(c *poolChild) error {
				if result := c.control.result(); result != 0 {
					return &ResultError{Pid: c.pid, Result: result, Out: slices.Clone(c.answer)}
				}
				return use(c.answer)
			},
		})
	}
	if err != nil {
		return &Error{op, len(in), err}
	}
	return nil
}
