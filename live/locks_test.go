//go:build linux && cgo && livego

package live_test

import (
	"bytes"
	"crypto/tls"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"sync/atomic"
	"testing"

	"forkshm.example/shm/live"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// blockingWriter signals the first write to it, and waits.
type blockingWriter struct{ writing, release chan struct{} }

func (w blockingWriter) Write(b []byte) (int, error) {
	w.writing <- struct{}{}
	<-w.release
	return len(b), nil
}

// shakeHands makes a TLS connection within the process, and writes its keys to
// w.
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

// Package crypto/tls has one lock for all key logs, which a frozen goroutine
// holds here.
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

// newType makes a type that no other call makes.
func newType(n int64) reflect.Type {
	field := reflect.StructField{Name: fmt.Sprint("F", n), Type: reflect.TypeFor[int]()}
	inner := reflect.StructOf([]reflect.StructField{field})
	return reflect.StructOf([]reflect.StructField{field, {Name: fmt.Sprint("G", n), Type: inner}})
}

// useCaches makes packages cache a type, a pattern, and the working directory.
func useCaches(n int64) error {
	var out bytes.Buffer
	value := reflect.New(newType(n)).Elem()
	value.Field(0).SetInt(n)
	value.Field(1).Field(0).SetInt(n)
	if err := gob.NewEncoder(&out).EncodeValue(value); err != nil {
		return err
	}
	got := reflect.New(value.Type())
	if err := gob.NewDecoder(&out).DecodeValue(got); err != nil {
		return err
	}
	if !got.Elem().Equal(value) {
		return fmt.Errorf("%v came back as %v", value, got.Elem())
	}
	http.HandleFunc(fmt.Sprintf("/caches/%d", n), func(http.ResponseWriter, *http.Request) {})
	_, err := os.Getwd()
	return err
}

// last is the number of the last type. Packages keep those of former runs of
// the test.
var last atomic.Int64

// Goroutines fill the caches of packages while children are forked. The
// children fill the caches, too.
func TestCachesOfTheStandardLibraryAreWholeInTheChild(t *testing.T) {
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 2 {
		running.Add(1)
		go func() {
			defer running.Done()
			for {
				select {
				case <-stop:
					return
				default:
					must(useCaches(last.Add(1)))
				}
			}
		}()
	}
	for range 20 {
		p, err := live.Go(func() int {
			for range 5 {
				if err := useCaches(last.Add(1)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return 1
				}
			}
			return good
		})
		require.NoError(t, err)
		assert.Equal(t, good, wait(t, p))
	}
	close(stop)
	running.Wait()
}

// The index of /debug/pprof reads the list of profiles, and so does a request
// for one profile.
func TestChildrenLookProfilesUpAsOthersDo(t *testing.T) {
	stop := make(chan struct{})
	var busy sync.WaitGroup
	defer busy.Wait()
	defer close(stop)
	for range 4 {
		busy.Add(1)
		go func() {
			defer busy.Done()
			for {
				select {
				case <-stop:
					return
				default:
					pprof.Profiles()
				}
			}
		}()
	}
	for range 20 {
		p, err := live.Go(func() int {
			if pprof.Lookup("heap") == nil {
				return 1
			}
			return good
		})
		require.NoError(t, err)
		require.Equal(t, good, wait(t, p))
	}
}

// A child can take an execution trace, even if a goroutine of the parent was
// starting or stopping one.
func TestChildrenTraceAsOthersBeginAndEnd(t *testing.T) {
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				if trace.Start(io.Discard) == nil {
					trace.Stop()
				}
			}
		}
	}()
	for done := 0; done < 10; {
		p, err := live.Go(func() int {
			var b bytes.Buffer
			if err := trace.Start(&b); err != nil {
				println("trace:", err.Error())
				return 1
			}
			trace.Stop()
			if b.Len() == 0 {
				return 2
			}
			return good
		})
		if errors.Is(err, live.ErrTracing) {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, good, wait(t, p))
		done++
	}
	close(stop)
	<-ended
}
