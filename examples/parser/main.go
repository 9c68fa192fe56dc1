//go:build linux && cgo

// Command parser is an HTTP server that parses messages with a C parser. The
// parser crashes on some messages. It runs in the children of a [shm.Pool]. So
// the server answers such a message with the place of the crash, and loses no
// other message.
//
// The command sends requests to itself, some of them bad, and checks each
// response. It prints the pool's and the children's counters. It exits with
// status 1 if a request was lost.
package main

// #include "parser.h"
import "C"

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"expvar"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"forkshm.example/shm"
)

func main() {
	requests := flag.Int("requests", 20000, "number of requests to send")
	bad := flag.Int("bad", 10, "percentage of requests that make the parser crash")
	children := flag.Int("children", 4, "number of children in the pool")
	clients := flag.Int("clients", 16, "number of clients that send at the same time")
	flag.Parse()

	s, err := newServer(*children)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	expvar.Publish("shm", expvar.Func(func() any { return shm.ReadCounters() }))
	expvar.Publish("pool", expvar.Func(func() any { return s.pool.Stats() }))
	http.Handle("POST /parse", s) // package expvar adds /debug/vars
	go func() { log.Fatal(http.Serve(listener, nil)) }()

	began := time.Now()
	good, crashed, lost := load("http://"+listener.Addr().String(), *requests, *bad, *clients)
	fmt.Printf("%d requests in %v: %d answered, %d made the parser crash, %d lost\n",
		*requests, time.Since(began).Round(time.Millisecond), good, crashed, lost)
	fmt.Println("pool:", expvar.Get("pool"))
	if err := s.close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("children:", expvar.Get("shm"))
	if lost > 0 {
		os.Exit(1)
	}
}

// maxMessage is the most bytes that a message can have.
const maxMessage = 4096

// server parses messages.
type server struct{ pool *shm.Pool }

func newServer(children int) (*server, error) {
	pool, err := shm.NewPool(nil, children, &shm.PoolConfig{
		Fork:        shm.ForkConfig{Lean: true},
		RestartRate: 10000, // this example crashes often; a real server sets a lower rate
		MaxIn:       maxMessage,
		MaxOut:      C.sizeof_struct_answer,
	})
	if err != nil {
		return nil, err
	}
	return &server{pool}, nil
}

func (s *server) close() error { return s.pool.Close() }

type answer struct{ Fields, Sum uint32 }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	message, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	a, err := s.parse(r.Context(), message)
	var ended *shm.ExitError
	switch {
	case errors.As(err, &ended):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, err.Error(), http.StatusGatewayTimeout)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		_ = json.NewEncoder(w).Encode(a)
	}
}

// parse parses a message in a child.
func (s *server) parse(ctx context.Context, message []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := s.pool.Do(ctx, shm.DoFunc(C.parse), message)
	var failed *shm.ResultError
	switch {
	case errors.As(err, &failed):
		return answer{}, errors.New("the message ends within a field")
	case err != nil:
		return answer{}, err
	}
	var a answer
	_, err = binary.Decode(out, binary.NativeEndian, &a)
	return a, err
}

// load sends requests, and counts the results.
func load(url string, requests, bad, clients int) (good, crashed, lost int64) {
	var sent, ok, refused, failed atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Add(1)
		go func() {
			defer all.Done()
			for sent.Add(1) <= int64(requests) {
				message, want, isBad := newMessage(bad)
				switch err := send(url, message, want, isBad); {
				case err != nil:
					log.Print("lost: ", err)
					failed.Add(1)
				case isBad:
					refused.Add(1)
				default:
					ok.Add(1)
				}
			}
		}()
	}
	all.Wait()
	return ok.Load(), refused.Load(), failed.Load()
}

func newMessage(bad int) (message []byte, want answer, isBad bool) {
	for range 1 + rand.IntN(500) {
		kind, value := 1+rand.IntN(2), rand.IntN(256)
		message = append(message, byte(kind), byte(value))
		want.Fields++
		want.Sum += []uint32{1: 1, 2: 12}[kind] * uint32(value)
	}
	if isBad = rand.IntN(100) < bad; isBad {
		message[2*rand.IntN(len(message)/2)] = 99
	}
	return message, want, isBad
}

// send sends a message, and returns an error unless the response is right.
func send(url string, message []byte, want answer, isBad bool) error {
	r, err := http.Post(url+"/parse", "application/octet-stream", bytes.NewReader(message))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if isBad {
		if r.StatusCode != http.StatusUnprocessableEntity ||
			!strings.Contains(string(body), "segmentation fault") {
			return fmt.Errorf("%s: %s, must be the parser's crash", r.Status, body)
		}
		return nil
	}
	var got answer
	if r.StatusCode != http.StatusOK || json.Unmarshal(body, &got) != nil || got != want {
		return fmt.Errorf("%s: %s, must be %+v", r.Status, body, want)
	}
	return nil
}
