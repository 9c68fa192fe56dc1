//go:build linux && cgo

package main

/*
#cgo CFLAGS: -Wall -Wextra
#cgo LDFLAGS: -ljpeg -lpng
#include <stdlib.h>
#include "decoder.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"forkshm.example/shm"
)

//go:generate go run forkshm.example/shm/cmd/childheader

// thumbnail has a child make the thumbnail of a file.
func (t *thumbnailer) thumbnail(ctx context.Context, file []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, t.deadline)
	defer cancel()
	out, err := t.pool.Do(ctx, shm.DoFunc(C.thumbnail), file)
	var result *shm.ResultError
	if errors.As(err, &result) {
		return nil, &refusal{string(result.Out), result.Result == C.SUCCEEDED}
	}
	return out, err
}

// decodeHere makes the thumbnail of standard input in this process, where an
// attack has what the process has. It prints what the C answers.
func decodeHere() error {
	file, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	in := C.CBytes(file)
	defer C.free(in)
	out := C.struct_shm_out{size: 1 << 20}
	out.start = (*C.char)(C.malloc(out.size))
	defer C.free(unsafe.Pointer(out.start))
	C.thumbnail(in, C.size_t(len(file)), &out)
	fmt.Print(C.GoStringN(out.start, C.int(out.length)))
	return nil
}
