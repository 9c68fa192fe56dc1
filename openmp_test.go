//go:build linux && cgo

package shm_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
	"forkshm.example/shm/internal/testenv"
)

// OpenMP's worker threads belong to the thread that used it. A child of that
// thread would wait for them for ever. The thread that forks for KillWithParent
// and for pools never used it.
func TestChildrenUseOpenMP(t *testing.T) {
	testenv.NeedDynamic(t)
	testenv.NeedCC(t)
	if !inOwnProcess(t, nil) { // OpenMP's threads stay
		return
	}
	const code = `int fall(void)
{
	int sum = 0;
	#pragma omp parallel for reduction(+:sum) num_threads(2)
	for (int i = 0; i < 100; i++)
		sum++;
	return sum - 100;
}`
	library := filepath.Join(t.TempDir(), "parallel.so")
	cmd := exec.Command(cc(), "-fopenmp", "-shared", "-fPIC", "-o", library, "-xc", "-")
	cmd.Stdin = strings.NewReader(code)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("this compiler has no OpenMP: %s", out)
	}
	if !ctest.IsGlibc() && !ctest.Load(library) {
		t.Skip("this compiler's OpenMP was built for glibc, and this program has another C library")
	}
	m := newMapping(t, shm.Shared, page, nil)
	copy(m.Bytes(), library+"\x00")
	ctx, cancel := context.WithTimeout(background, 2*time.Minute)
	defer cancel()
	assert.NoError(t, shm.Call(ctx, ctest.Plugin, m, nil), "a thread without workers")
	onAThreadOfItsOwn(func() {
		require.Zero(t, ctest.PluginHere(m), "this thread has workers now")
		for range 3 {
			assert.NoError(t, shm.Call(ctx, ctest.Plugin, m, &shm.ForkConfig{KillWithParent: true}))
		}
		pool := must(shm.NewPool(m, 1, nil))
		for range 3 {
			result, err := pool.Call(ctx, ctest.Plugin, 0, page)
			assert.NoError(t, err)
			assert.Zero(t, result)
		}
		assert.NoError(t, pool.Close())
	})
}
