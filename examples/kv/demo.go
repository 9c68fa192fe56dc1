package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// demo starts a server in a process of its own, sends it requests at a fixed
// rate, whether it answers or not, and has it save meanwhile. A latency is
// counted from when the request was due: what waits behind a server that stands
// still counts in full.
type demo struct {
	keys, rate, clients int
	out                 io.Writer
	// How long the demo measures a server that does not save; 0 means 5 s.
	idle  time.Duration
	quick time.Duration // an answer that shows that the server has caught up; 0 means 100 ms
}

// Every key belongs to one client, which numbers what it writes: write n goes
// to its key n*stride modulo the number of its keys, and n is the value. So a
// file can be held against what it must be: of each client there are all writes
// up to some number, and none beyond.
const stride = 1_000_000_007 // a prime: it comes by all keys

func keyName(i int) []byte { return fmt.Appendf(nil, "key:%09d", i) }

func valueOf(n int) string { return fmt.Sprintf("%032d", n) }

func (d demo) keysOf(client int) int { return (d.keys - client + d.clients - 1) / d.clients }

type client struct {
	conn           net.Conn
	sent, answered atomic.Int64 // writes

	mu      sync.Mutex
	samples []sample
	err     error
}

type sample struct {
	due     time.Time
	latency time.Duration
}

func (d demo) run(methods []method) error {
	if d.idle == 0 {
		d.idle = 5 * time.Second
	}
	if d.quick == 0 {
		d.quick = 100 * time.Millisecond
	}
	dir, err := os.MkdirTemp("", "kv-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "dump.kv")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(self, "-addr", "127.0.0.1:0", "-file", file, "-preload",
		strconv.Itoa(d.keys))
	server.Stderr = os.Stderr
	stdout, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	began := time.Now()
	var keys int
	var addr string
	if _, err := fmt.Fscanf(stdout, "serving %d keys at %s\n", &keys, &addr); err != nil {
		return fmt.Errorf("the server does not start: %w", err)
	}
	fmt.Fprintf(d.out, "%d keys of %d and %d bytes, loaded in %v: %d MiB resident; %d requests/s "+
		"by %d clients, half of them write\n",
		keys, len(keyName(0)), len(valueOf(0)), time.Since(began).Round(100*time.Millisecond),
		resident(server.Process.Pid)>>20, d.rate, d.clients)

	clients := make([]*client, d.clients)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range clients {
		c := new(client)
		if c.conn, err = net.Dial("tcp", addr); err != nil {
			return err
		}
		defer c.conn.Close()
		clients[i] = c
		due := make(chan request, 1<<20)
		all.Add(2)
		go func() { defer all.Done(); d.send(c, i, due, stop) }()
		go func() { defer all.Done(); c.receive(due) }()
	}
	err = d.measure(methods, addr, file, clients)
	close(stop)
	all.Wait()
	for _, c := range clients {
		err = errors.Join(err, c.err)
	}
	return err
}

func (d demo) measure(methods []method, addr, file string, clients []*client) error {
	control, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer control.Close()
	answers := bufio.NewReader(control)

	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table,
		"how\ttook\twriters held\tall stopped\trequests\tmedian\tp99\tworst\tcopied\tfile\t")
	row := func(name string, from, to time.Time, rest func(latencies []time.Duration)) {
		latencies := within(clients, from, to)
		fmt.Fprintf(table, "%s\t%v\t", name, to.Sub(from).Round(time.Millisecond))
		rest(latencies)
	}
	percentiles := func(l []time.Duration) string {
		if len(l) == 0 {
			return "0\t-\t-\t-"
		}
		slices.Sort(l)
		return fmt.Sprintf("%d\t%v\t%v\t%v", len(l), round(l[len(l)/2]), round(l[len(l)*99/100]),
			round(l[len(l)-1]))
	}

	time.Sleep(d.idle / 5)
	from := time.Now()
	time.Sleep(d.idle)
	to := time.Now()
	if err := d.quiet(clients); err != nil {
		return err
	}
	row("no snapshot", from, to, func(l []time.Duration) {
		fmt.Fprintf(table, "-\t-\t%s\t-\t-\t\n", percentiles(l))
	})
	for _, m := range methods {
		before := counts(clients, func(c *client) *atomic.Int64 { return &c.answered })
		from := time.Now()
		fmt.Fprintf(control, "SNAPSHOT %s\r\n", m.name)
		answer, err := readAnswer(answers)
		if err != nil {
			return fmt.Errorf("%s: %w", m.text, err)
		}
		to := time.Now()
		after := counts(clients, func(c *client) *atomic.Int64 { return &c.sent })
		var r saved
		if err := json.Unmarshal([]byte(answer), &r); err != nil {
			return err
		}
		if err := d.quiet(clients); err != nil {
			return err
		}
		st, err := os.Stat(file)
		if err != nil {
			return err
		}
		if err := d.check(file, before, after); err != nil {
			return fmt.Errorf("%s: %w", m.text, err)
		}
		row(m.text, from, to, func(l []time.Duration) {
			fmt.Fprintf(table, "%v\t%v\t%s\t%d MiB\t%d MiB, good\t\n", round(r.Held),
				round(r.Pause), percentiles(l), r.Copied>>20, st.Size()>>20)
		})
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return table.Flush()
}

func round(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	case d > 10*time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

func counts(clients []*client, of func(*client) *atomic.Int64) []int64 {
	var n []int64
	for _, c := range clients {
		n = append(n, of(c).Load())
	}
	return n
}

// within returns the latencies of requests that were due between two times.
func within(clients []*client, from, to time.Time) []time.Duration {
	var l []time.Duration
	for _, c := range clients {
		c.mu.Lock()
		for _, s := range c.samples {
			if !s.due.Before(from) && s.due.Before(to) {
				l = append(l, s.latency)
			}
		}
		c.mu.Unlock()
	}
	return l
}

// quiet waits until all that has been due is answered, and answers are quick
// again.
func (d demo) quiet(clients []*client) error {
	until := time.Now()
	for deadline := until.Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("the server does not catch up with the requests")
		}
		caught := true
		for _, c := range clients {
			c.mu.Lock()
			n := len(c.samples)
			if n == 0 || c.samples[n-1].due.Before(until) || c.samples[n-1].latency > d.quick {
				caught = false
			}
			err := c.err
			c.mu.Unlock()
			if err != nil {
				return err
			}
		}
		if caught {
			return nil
		}
	}
}

type request struct {
	due   time.Time
	write bool
}

// send sends a client's requests when they are due.
func (d demo) send(c *client, id int, due chan<- request, stop <-chan struct{}) {
	defer close(due)
	w := bufio.NewWriterSize(c.conn, 64<<10)
	every := time.Duration(d.clients) * time.Second / time.Duration(d.rate)
	next := time.Now().Add(every * time.Duration(id) / time.Duration(d.clients))
	for n := 0; ; {
		select {
		case <-stop:
			_ = w.Flush()
			_ = c.conn.(*net.TCPConn).CloseWrite()
			return
		default:
		}
		if wait := time.Until(next); wait > 0 {
			if w.Flush() != nil {
				return
			}
			time.Sleep(wait)
		}
		r := request{next, rand.IntN(2) == 0}
		if r.write {
			n++
			key, value := keyName(id+d.clients*(n*stride%d.keysOf(id))), valueOf(n)
			c.sent.Store(int64(n))
			fmt.Fprintf(w, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key,
				len(value), value)
		} else {
			key := keyName(rand.IntN(d.keys))
			fmt.Fprintf(w, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
		}
		due <- r
		next = next.Add(every)
	}
}

// receive takes a client's answers, and notes how late they were.
func (c *client) receive(due <-chan request) {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	for q := range due {
		_, err := readAnswer(r)
		latency := time.Since(q.due)
		c.mu.Lock()
		if err != nil && c.err == nil {
			c.err = err
		}
		c.samples = append(c.samples, sample{q.due, latency})
		c.mu.Unlock()
		if err != nil {
			c.conn.Close()
			for range due {
			}
			return
		}
		if q.write {
			c.answered.Add(1)
		}
	}
}

// readAnswer reads the kinds of answers that our commands have.
func readAnswer(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case line == "":
		return "", errors.New("an empty answer")
	case line[0] == '-':
		return "", errors.New(line[1:])
	case line[0] != '$' || line == "$-1":
		return line[1:], nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return "", err
	}
	b := make([]byte, n+2)
	_, err = io.ReadFull(r, b)
	return string(b[:n]), err
}

// check holds a file against what its point in time must have been. before are
// the writes that each client had answers to when the snapshot was asked for,
// and after those that it had sent when it had ended.
func (d demo) check(file string, before, after []int64) error {
	values := make([][]uint32, d.clients)
	for c := range values {
		values[c] = make([]uint32, d.keysOf(c))
	}
	count := 0
	err := decode(file, func(key, value []byte) error {
		i, err := strconv.Atoi(strings.TrimPrefix(string(key), "key:"))
		if err != nil || i < 0 || i >= d.keys {
			return fmt.Errorf("it has %q", key)
		}
		n, err := strconv.ParseUint(string(value), 10, 32)
		if err != nil {
			return err
		}
		values[i%d.clients][i/d.clients] = uint32(n)
		count++
		return nil
	})
	if err != nil {
		return err
	}
	if count != d.keys {
		return fmt.Errorf("it has %d keys of %d", count, d.keys)
	}
	for c, of := range values {
		last, n := int(slices.Max(of)), len(of)
		if int64(last) < before[c] || int64(last) > after[c] {
			return fmt.Errorf("of client %d it has write %d as the last, not one from %d to %d", c,
				last, before[c], after[c])
		}
		inverse := 0
		if n > 1 {
			inverse = int(new(big.Int).ModInverse(big.NewInt(stride%int64(n)),
				big.NewInt(int64(n))).Int64())
		}
		for k, value := range of {
			want := k * inverse % n // the first write to it, unless that is 0
			if want == 0 {
				want = n
			}
			if want > last {
				want = 0
			} else {
				want += (last - want) / n * n
			}
			if int(value) != want {
				return fmt.Errorf("of client %d key %d has write %d and not %d, though %d is there",
					c, k, value, want, last)
			}
		}
	}
	return nil
}

// resident returns the bytes that a process has in memory.
func resident(pid int) int64 {
	statm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if fields := bytes.Fields(statm); len(fields) > 1 {
		pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}
