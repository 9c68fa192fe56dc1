package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// progress is a line on standard error that names what is under way. If
// standard error is not a terminal, each stage gets a line.
type progress struct {
	start    time.Time
	terminal bool
	stage    string
}

func newProgress(start time.Time) *progress {
	info, err := os.Stderr.Stat()
	return &progress{start: start, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (p *progress) show(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	stage, _, _ := strings.Cut(what, ",")
	switch {
	case p.terminal:
		fmt.Fprintf(os.Stderr, "\r\033[K%4.0f s  %s", time.Since(p.start).Seconds(), what)
	case stage != p.stage:
		fmt.Fprintf(os.Stderr, "%4.0f s  %s\n", time.Since(p.start).Seconds(), stage)
	}
	p.stage = stage
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
