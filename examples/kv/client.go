package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// client sends requests to a server when they are due, whether the server
// answers or not. A latency is counted from the time at which the request was
// due, so that a server that stands still costs all requests that wait.
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

type request struct {
	due   time.Time
	write bool
}

// schedule is what all clients send together.
type schedule struct {
	writes
	rate int // requests a second, half of them writes
}

// send sends the requests of one client when they are due, until stop is
// closed.
func (s schedule) send(c *client, id int, due chan<- request, stop <-chan struct{}) {
	defer close(due)
	w := bufio.NewWriterSize(c.conn, 64<<10)
	every := time.Duration(s.clients) * time.Second / time.Duration(s.rate)
	next := time.Now().Add(every * time.Duration(id) / time.Duration(s.clients))
	for {
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
			n := c.sent.Add(1)
			key, value := s.key(id, int(n)), valueOf(int(n))
			fmt.Fprintf(w, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key,
				len(value), value)
		} else {
			key := keyName(rand.IntN(s.keys))
			fmt.Fprintf(w, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
		}
		due <- r
		next = next.Add(every)
	}
}

// receive reads the answers to a client's requests, and keeps the latencies.
func (c *client) receive(due <-chan request) {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	for q := range due {
		_, err := readAnswer(r)
		c.add(sample{q.due, time.Since(q.due)}, err)
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

func (c *client) add(s sample, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.samples = append(c.samples, s)
}

// isQuick returns whether all requests that were due before a time are
// answered, the last one within limit.
func (c *client) isQuick(before time.Time, limit time.Duration) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.samples)
	return n > 0 && !c.samples[n-1].due.Before(before) && c.samples[n-1].latency <= limit, c.err
}

// within returns the latencies of the requests that were due between two times.
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
