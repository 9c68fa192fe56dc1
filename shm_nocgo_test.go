//go:build !linux || !cgo

package shm_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"forkshm.example/shm"
)

func TestWithoutTheShimAllIsUnsupported(t *testing.T) {
	m, mapErr := shm.Map(shm.Shared, 4096, nil)
	assert.Nil(t, m)
	_, mmapErr := shm.Mmap(nil, 4096, 3, 0x22, -1, 0)
	_, mremapErr := shm.Mremap(nil, 0, 0, 0, nil)
	_, forkErr := shm.Fork(nil, nil, 0)
	_, _, waitErr := shm.Waitpid(-1, 0)
	_, guardedErr := shm.Map(shm.Shared, 4096, &shm.Config{Guard: true})
	_, memfdErr := shm.Map(shm.Shared, 4096, &shm.Config{Technique: shm.Memfd})
	for _, err := range []error{guardedErr, memfdErr, mapErr, mmapErr, shm.Munmap(nil, 0),
		mremapErr, forkErr, waitErr} {
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		assert.ErrorContains(t, err, "CGO_ENABLED=1")
	}
	assert.Equal(t, shm.BuildDefault, shm.DefaultTechnique())
}
