//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"forkshm.example/shm"
)

// load says how many files are sent.
type load struct {
	requests, clients int
	bad               int // of a hundred files
}

// tally is what became of the files.
type tally struct {
	mu      sync.Mutex
	files   map[string]int  // by kind and status
	crashes map[string]int  // by signal
	denied  map[string]int  // by system call
	good    []time.Duration // how long each good file took
	wrong   int
}

// runLoad sends files to a server, prints what became of them, and returns an
// error if a response was wrong.
func runLoad(w io.Writer, cfg shm.PoolConfig, children int, deadline time.Duration, l load) error {
	handler, t, err := newHandler(cfg, children, deadline)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	began := time.Now()
	got := l.send("http://" + listener.Addr().String() + "/thumbnail")
	took := time.Since(began)
	err = errors.Join(server.Shutdown(context.Background()), t.pool.Close())
	got.print(w, l, took)
	fmt.Fprintf(w, "pool: %+v, children that are left: %d\n", t.pool.Stats(), shm.ReadCounters().Live)
	if got.wrong > 0 {
		err = errors.Join(err, fmt.Errorf("%d responses were wrong", got.wrong))
	}
	return err
}

// send sends the files.
func (l load) send(url string) *tally {
	t := &tally{files: map[string]int{}, crashes: map[string]int{}, denied: map[string]int{}}
	all := newFiles()
	var sent atomic.Int64
	var clients sync.WaitGroup
	for range l.clients {
		clients.Add(1)
		go func() {
			defer clients.Done()
			for sent.Add(1) <= int64(l.requests) {
				t.post(url, all.pick(l.bad))
			}
		}()
	}
	clients.Wait()
	return t
}

// post sends a file, and counts the response.
func (t *tally) post(url string, f file) {
	began := time.Now()
	r, err := http.Post(url, "application/octet-stream", bytes.NewReader(f.bytes))
	var body []byte
	status := 0
	if err == nil {
		status = r.StatusCode
		body, err = io.ReadAll(r.Body)
		r.Body.Close()
	}
	took := time.Since(began)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files[fmt.Sprintf("%s\t%d", f.kind, status)]++
	t.count(string(body))
	isGood := f.kind == "good"
	if isGood {
		t.good = append(t.good, took)
	}
	if err != nil || !slices.Contains(f.want, status) || isGood && !isThumbnail(body) {
		t.wrong++
		log.Printf("wrong: %s: status %d, must be of %v: %.200q, %v", f.kind, status, f.want, body, err)
	}
}

var (
	denied  = regexp.MustCompile(`sandbox: system call (\S+) denied`)
	crashed = regexp.MustCompile(`signal: ([a-z ]+)`)
)

// count counts how a child ended, by the text of a response.
func (t *tally) count(text string) {
	if m := denied.FindStringSubmatch(text); m != nil {
		t.denied[m[1]]++
	} else if m := crashed.FindStringSubmatch(text); m != nil {
		t.crashes[m[1]]++
	}
}

func (t *tally) print(w io.Writer, l load, took time.Duration) {
	fmt.Fprintf(w, "%d requests in %v, %d responses wrong\n", l.requests, took.Round(time.Millisecond), t.wrong)
	slices.Sort(t.good)
	if n := len(t.good); n > 0 {
		fmt.Fprintf(w, "good files: %d, median %v, p99 %v\n", n, t.good[n/2].Round(10*time.Microsecond),
			t.good[n*99/100].Round(10*time.Microsecond))
	}
	fmt.Fprintln(w, "crashes survived:", counts(t.crashes))
	fmt.Fprintln(w, "denied system calls:", counts(t.denied))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "file\tstatus\tcount")
	for _, kind := range slices.Sorted(maps.Keys(t.files)) {
		fmt.Fprintf(table, "%s\t%d\n", kind, t.files[kind])
	}
	_ = table.Flush()
}

// counts returns counts as text, the names in order.
func counts(of map[string]int) (s string) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf("%s %d", name, of[name])
	}
	return s
}
