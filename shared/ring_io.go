package shared

import (
	"context"
	"io"
)

// Writer returns the producer's end as a stream of bytes: each Write commits
// records until all of its bytes are written. Errors are those of Reserve, with
// ctx.
func (r *Ring) Writer(ctx context.Context) io.Writer { return &ringWriter{r, ctx} }

// Reader returns the consumer's end as a stream of bytes, where records have no
// bounds. Each Read copies what it returns, from one record. Errors are those
// of Peek, with ctx.
func (r *Ring) Reader(ctx context.Context) io.Reader { return &ringReader{r, ctx, nil} }

type ringWriter struct {
	r   *Ring
	ctx context.Context
}

func (w *ringWriter) Write(p []byte) (n int, err error) {
	chunk := max(w.r.Max()/4, 1) // so that the consumer reads one record while the next is written
	for n < len(p) {
		buf, err := w.r.Reserve(w.ctx, min(chunk, len(p)-n))
		if err != nil {
			return n, err
		}
		copied := copy(buf, p[n:])
		if err := w.r.Commit(); err != nil {
			return n, err
		}
		n += copied
	}
	return n, nil
}

type ringReader struct {
	r    *Ring
	ctx  context.Context
	rest []byte // of the record that is read
}

func (r *ringReader) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.rest) == 0 {
		if r.rest, err = r.r.Peek(r.ctx); err != nil {
			return 0, err
		}
		if len(r.rest) > 0 {
			break
		}
		if err := r.r.Release(); err != nil {
			return 0, err
		}
		if err := r.ctx.Err(); err != nil { // a hostile producer may commit nothing, for ever
			return 0, err
		}
	}
	n = copy(p, r.rest)
	if r.rest = r.rest[n:]; len(r.rest) > 0 {
		return n, nil
	}
	return n, r.r.Release()
}
