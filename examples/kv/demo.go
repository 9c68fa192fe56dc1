package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"
)

// demo starts a server in another process, sends it requests at a fixed rate,
// and has it save meanwhile by one method after another.
type demo struct {
	schedule
	out io.Writer

	idle  time.Duration // how long a server that does not save is measured; 0 means 5 s
	quick time.Duration // the latency of a server that has caught up; 0 means 100 ms
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
	addr, stop, err := d.startServer(file)
	if err != nil {
		return err
	}
	defer stop()
	return d.beside(addr, func(clients []*client) error {
		return d.measure(methods, addr, file, clients)
	})
}

// startServer starts a server that has all keys. stop ends it.
func (d demo) startServer(file string) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	server := exec.Command(self, "-addr", "127.0.0.1:0", "-file", file, "-preload",
		strconv.Itoa(d.keys))
	server.Stderr = os.Stderr
	stdout, err := server.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := server.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}
	began := time.Now()
	var keys int
	if _, err := fmt.Fscanf(stdout, "serving %d keys at %s\n", &keys, &addr); err != nil {
		stop()
		return "", nil, fmt.Errorf("the server does not start: %w", err)
	}
	fmt.Fprintf(d.out, "%d keys of %d and %d bytes, loaded in %v: %d MiB resident; ", keys,
		len(keyName(0)), len(valueOf(0)), time.Since(began).Round(100*time.Millisecond),
		resident(server.Process.Pid)>>20)
	fmt.Fprintf(d.out, "%d requests/s by %d clients, half of them write\n", d.rate, d.clients)
	return addr, stop, nil
}

// beside calls f while clients send requests to the server at addr.
func (d demo) beside(addr string, f func(clients []*client) error) error {
	clients := make([]*client, d.clients)
	for i := range clients {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		clients[i] = &client{conn: conn}
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i, c := range clients {
		due := make(chan request, 1<<20)
		all.Add(2)
		go func() { defer all.Done(); d.send(c, i, due, stop) }()
		go func() { defer all.Done(); c.receive(due) }()
	}
	err := f(clients)
	close(stop)
	all.Wait()
	for _, c := range clients {
		err = errors.Join(err, c.err)
	}
	return err
}

// measure prints a table: a row of a server that does not save, and a row for
// each method.
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
	time.Sleep(d.idle / 5)
	from := time.Now()
	time.Sleep(d.idle)
	to := time.Now()
	if err := d.quiet(clients); err != nil {
		return err
	}
	fmt.Fprintf(table, "no snapshot\t%v\t-\t-\t%s\t-\t-\t\n", to.Sub(from).Round(time.Millisecond),
		percentiles(within(clients, from, to)))
	for _, m := range methods {
		save := func() (string, error) {
			fmt.Fprintf(control, "SNAPSHOT %s\r\n", m.name)
			return readAnswer(answers)
		}
		if err := d.measureSave(table, m.text, save, file, clients); err != nil {
			return fmt.Errorf("%s: %w", m.text, err)
		}
	}
	return table.Flush()
}

// measureSave has the server save once, checks the file, and prints a row.
func (d demo) measureSave(table io.Writer, text string, save func() (string, error), file string,
	clients []*client) error {
	before := make([]int64, len(clients))
	for i, c := range clients {
		before[i] = c.answered.Load()
	}
	from := time.Now()
	answer, err := save()
	if err != nil {
		return err
	}
	to := time.Now()
	after := make([]int64, len(clients))
	for i, c := range clients {
		after[i] = c.sent.Load()
	}
	var how saved
	if err := json.Unmarshal([]byte(answer), &how); err != nil {
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
		return err
	}
	fmt.Fprintf(table, "%s\t%v\t%v\t%v\t%s\t%d MiB\t%d MiB, good\t\n", text,
		to.Sub(from).Round(time.Millisecond), round(how.Held), round(how.Pause),
		percentiles(within(clients, from, to)), how.Copied>>20, st.Size()>>20)
	return os.Remove(file)
}

// quiet waits until all requests that have been due are answered, and answers
// are quick again.
func (d demo) quiet(clients []*client) error {
	until := time.Now()
	for deadline := until.Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("the server does not catch up with the requests")
		}
		quick := true
		for _, c := range clients {
			ok, err := c.isQuick(until, d.quick)
			if err != nil {
				return err
			}
			quick = quick && ok
		}
		if quick {
			return nil
		}
	}
}

// percentiles returns the cells of a row: how many latencies there are, the
// median, the 99th percentile, and the worst.
func percentiles(l []time.Duration) string {
	if len(l) == 0 {
		return "0\t-\t-\t-"
	}
	slices.Sort(l)
	return fmt.Sprintf("%d\t%v\t%v\t%v", len(l), round(l[len(l)/2]), round(l[len(l)*99/100]),
		round(l[len(l)-1]))
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

// resident returns the bytes that a process has in memory.
func resident(pid int) int64 {
	statm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if fields := bytes.Fields(statm); len(fields) > 1 {
		pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}
