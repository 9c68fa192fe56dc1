// Compare compares the techniques by which the library maps memory: what
// their memory does, which system calls they make, and what they cost, beside C
// and beside what other languages have. It measures all of it on this machine,
// in one run, with both builds of the library.
//
//	go -C tools run ./compare [-quick | -full] [-out DIR]
//
// Compare prints a report, and writes it to DIR: index.html, which needs no
// other file, the pictures, costs.txt in Go's benchmark format, and data.json.
// Compare fails, and names the row, if the library's memory does something else
// than the same memory in C.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"forkshm.example/shm/tools/costs"
)

func main() {
	quick := flag.Bool("quick", false, "few sizes, and no peers: less than 40 seconds")
	full := flag.Bool("full", false, "more repetitions: for a report that is kept")
	out := flag.String("out", "../out/compare", "folder to write to")
	flag.Parse()
	r, err := run(*out, planOf(*quick, *full))
	if err == nil {
		err = r.write(*out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
	fmt.Print(r.text())
	fmt.Printf("\nThe same with pictures: %s\n", filepath.Join(*out, "index.html"))
	if wrong := r.differences(); len(wrong) > 0 {
		for _, w := range wrong {
			fmt.Fprintln(os.Stderr, "compare: C and the library differ:", w)
		}
		os.Exit(1)
	}
}

func run(out string, p plan) (*report, error) {
	start := time.Now()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	r := &report{Plan: p.name, Date: start.UTC().Format("2006-01-02"), Machine: machineNow()}
	bin, err := os.MkdirTemp("", "compare")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(bin)
	prog := newProgress(start)
	defer prog.end()
	b := &builder{bin: bin, progress: prog}
	if err := b.all(p.peers); err != nil {
		return nil, err
	}
	if r.Behaviour, err = b.behaviour(); err != nil {
		return nil, err
	}
	if r.Syscalls, err = b.syscalls(); err != nil {
		return nil, err
	}
	if r.rows, err = b.measure(filepath.Join(out, "costs.txt"), p, r.Machine); err != nil {
		return nil, err
	}
	r.Costs = costs.Of(r.rows)
	r.Peers = peersOf(r.rows, b.notes)
	r.Skipped = b.skipped
	r.Advice = r.advise()
	r.Machine.LoadAfter = load()
	r.Took = time.Since(start).Round(time.Second).String()
	return r, nil
}

// write writes the report's files.
func (r *report) write(dir string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "data.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	for name, svg := range r.pictures() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	page, err := r.html()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.html"), page, 0o644)
}
