//go:build linux && cgo && livego

package live_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"testing"

	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// blockingWriter tells that it is written to, and waits.
type blockingWriter struct{ writing, release chan struct{} }

func (w blockingWriter) Write(b []byte) (int, error) {
	w.writing <- struct{}{}
	<-w.release
	return len(b), nil
}

// shakeHands makes a TLS connection within the process, whose keys are written to w.
func shakeHands(server *tls.Config, w io.Writer) error {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	served := make(chan error, 1)
	go func() { served <- tls.Server(there, server).Handshake() }()
	client := tls.Client(here, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: w})
	err := client.Handshake()
	there.Close()
	return errors.Join(err, <-served)
}

// Package crypto/tls has one lock for all key logs, which a frozen goroutine holds here.
func TestLocksOfTheStandardLibraryAreFreeInTheChild(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	config := server.TLS.Clone()
	w := blockingWriter{make(chan struct{}), make(chan struct{})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = shakeHands(config, w) }()
	<-w.writing
	p, err := live.Go(func() int {
		var keys bytes.Buffer
		if err := shakeHands(config, &keys); err != nil || keys.Len() == 0 {
			println("handshake:", err.Error())
			return 1
		}
		if _, err := os.Getwd(); err != nil {
			return 2
		}
		return good
	})
	require.NoError(t, err)
	assert.Equal(t, good, wait(t, p))
	close(w.release)
	for {
		select {
		case <-w.writing: // the other lines of keys
		case <-ended:
			return
		}
	}
}
