//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"forkshm.example/shm"
)

// A wall is a line of the configuration, and what an attacker can do without it.
type wall struct {
	line    string // of Go
	without func(*shm.PoolConfig)
	files   []file
}

var walls = []wall{
	{"Sandbox: &shm.Sandbox{}", func(c *shm.PoolConfig) { c.Fork.Sandbox = nil }, []file{
		malicious("open", 403), malicious("connect", 403), malicious("fork", 403),
		malicious("peek", 403), malicious("signal", 403),
	}},
	{"MemoryLimit: 256 << 20", func(c *shm.PoolConfig) { c.Fork.MemoryLimit = 0; c.CPUTime = 0 },
		[]file{{kind: "huge", bytes: bomb()}}},
	{"CPUTime: 500 * time.Millisecond", func(c *shm.PoolConfig) { c.CPUTime = 0 },
		[]file{malicious("loop", 504)}},
	{"MaxCalls: 1", func(c *shm.PoolConfig) { c.MaxCalls = 0 }, []file{malicious("poison", 422)}},
}

// printWalls prints what each line of the configuration takes away: what a file
// does without the line, and with it.
func printWalls(w io.Writer, cfg shm.PoolConfig) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "line\tfile\twithout the line\twith it")
	for _, name := range []string{"write", "abort"} {
		f := malicious(name, 422)
		fmt.Fprintf(table, "pool.Do(…)\t%s\t%s\t%s\n", f.kind, tryHere(f), try(cfg, f))
	}
	for _, wall := range walls {
		less := cfg
		wall.without(&less)
		for _, f := range wall.files {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", wall.line, f.kind, try(less, f), try(cfg, f))
		}
	}
	less := cfg
	less.ForkServer = false
	heap := make([]byte, 256<<20) // a fork copies its page tables, a fork server's does not
	for i := 0; i < len(heap); i += 4096 {
		heap[i] = 1
	}
	fmt.Fprintf(table, "ForkServer: true\tgood, beside 256 MiB\t%s\t%s\n", timeOf(less), timeOf(cfg))
	heap[0]++
	return table.Flush()
}

// tryHere has a process decode a file without a child, and returns what became of
// the process.
func tryHere(f file) string {
	cmd := exec.Command("/proc/self/exe", "-here")
	cmd.Stdin = bytes.NewReader(f.bytes)
	out, err := cmd.Output()
	if err != nil {
		return "the server ends: " + err.Error()
	}
	return string(out)
}

// try has a new pool make the thumbnail of a file and then that of a good one, and
// returns what became of them.
func try(cfg shm.PoolConfig, f file) string {
	pool, err := shm.NewPool(nil, 1, &cfg)
	if err != nil {
		return err.Error()
	}
	defer pool.Close()
	t := &thumbnailer{pool, time.Minute}
	if f.isEndless() && cfg.CPUTime == 0 {
		t.deadline = 3 * time.Second
	}
	_, err = t.thumbnail(context.Background(), f.bytes)
	t.deadline = time.Minute
	next, nextErr := t.thumbnail(context.Background(), newFiles().good[0].bytes)
	switch {
	case nextErr != nil:
		return fmt.Sprintf("the next file: %v", nextErr)
	case !isThumbnail(next):
		return fmt.Sprintf("the next file becomes %q", next)
	case err == nil:
		return fmt.Sprintf("a thumbnail, by %d MiB of memory", 16000*16000*3>>20)
	case errors.Is(err, context.DeadlineExceeded):
		return "still runs after 3s"
	}
	return short(err.Error())
}

// isEndless reports whether a decoder does not return from the file.
func (f file) isEndless() bool { return slices.Contains(f.want, 504) }

// short returns an error without the operation and the place.
func short(text string) string {
	if _, after, found := strings.Cut(text, "child "); found {
		text = after
		if _, after, found := strings.Cut(after, ": "); found {
			text = after
		}
	}
	text, _, _ = strings.Cut(text, ", at ")
	return text
}

// timeOf returns how long good files take, each in a child of its own.
func timeOf(cfg shm.PoolConfig) string {
	pool, err := shm.NewPool(nil, 1, &cfg)
	if err != nil {
		return err.Error()
	}
	defer pool.Close()
	t := &thumbnailer{pool, time.Minute}
	file := newFiles().good[0].bytes
	const n = 50
	began := time.Now()
	for range n {
		if _, err := t.thumbnail(context.Background(), file); err != nil {
			return err.Error()
		}
	}
	return (time.Since(began) / n).Round(10 * time.Microsecond).String()
}
