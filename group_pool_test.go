//go:build linux && cgo

package shm_test

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"forkshm.example/shm"
	"forkshm.example/shm/internal/ctest"
)

// Signals for the program's process group end no call and no fork, whenever they
// come: neither a child that serves, nor one that is being made, nor a fork server.
func TestSignalsToTheGroupWhileChildrenAreMade(t *testing.T) {
	if !inOwnProcess(t, &syscall.SysProcAttr{Setpgid: true}) {
		return
	}
	signals := make(chan os.Signal, 100)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	end := make(chan struct{})
	var sender sync.WaitGroup
	sender.Add(1)
	go func() {
		defer sender.Done()
		for {
			for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM} {
				if err := unix.Kill(0, sig); err != nil {
					t.Error(err)
				}
				<-signals
			}
			select {
			case <-end:
				return
			default:
			}
		}
	}()
	m := newMapping(t, shm.Shared, page, nil)
	for _, server := range []bool{false, true} {
		p := newPool(t, m, 2, &shm.PoolConfig{ForkServer: server, MaxCalls: 1, RestartRate: 1e6})
		for range 100 {
			got, err := p.Call(background, ctest.Sleep, 0, 0)
			require.NoError(t, err)
			assert.Zero(t, got)
		}
		require.NoError(t, p.Close())
	}
	close(end)
	sender.Wait()
}
