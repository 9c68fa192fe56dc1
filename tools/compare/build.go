package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// builder builds the programs that are compared, into a folder of its own.
type builder struct {
	bin      string
	progress *progress
	skipped  []string          // peers whose tools are missing
	peers    []program         // peers that were built
	notes    map[string]string // the notes that programs print: "rust grow" -> "copies"
}

// program is a peer: how it is run, and what it can do.
type program struct {
	name      string // "Python"
	by        string // "mmap, os.fork"
	command   []string
	technique string
	sharing   string
}

// all builds what is always needed, and the peers whose tools are there.
func (b *builder) all(peers bool) error {
	b.notes = map[string]string{}
	must := [][]string{
		append(cc(), "-O2", "-o", b.path("behaviour-c"), "compare/c/behaviour.c"),
		append(cc(), "-O2", "-o", b.path("life-c"), "peers/c/life.c"),
		{"go", "build", "-o", b.path("behaviour-go"), "./compare/behaviour"},
		{"go", "build", "-o", b.path("life-anonymous"), "./peers/shm"},
		{"go", "build", "-tags", "devzero", "-o", b.path("life-devzero"), "./peers/shm"},
	}
	for _, cmd := range must {
		b.progress.show("build %s", filepath.Base(cmd[len(cmd)-1]))
		if err := do(".", cmd...); err != nil {
			return err
		}
	}
	if !peers {
		b.skipped = []string{"the peers, in a quick run"}
		return nil
	}
	b.peers = []program{
		{"C", "the calls themselves", []string{b.path("life-c")}, "memfd", "shared"},
		{"this library", "Map, Fork, Resize", []string{b.path("life-anonymous")}, "memfd",
			"shared"},
	}
	b.python()
	b.rust()
	b.cpp()
	b.plainGo()
	return nil
}

func (b *builder) path(name string) string { return filepath.Join(b.bin, name) }

func cc() []string {
	if words := strings.Fields(os.Getenv("CC")); len(words) > 0 {
		return words
	}
	return []string{"cc"}
}

func do(dir string, words ...string) error {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// add adds a peer, or the reason why it is skipped.
func (b *builder) add(p program, needs string, err error) {
	if err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		b.skipped = append(b.skipped, fmt.Sprintf("%s: it needs %s (%s)", p.name, needs, reason))
		return
	}
	b.peers = append(b.peers, p)
}

func (b *builder) python() {
	_, err := exec.LookPath("python3")
	b.add(program{"Python", "mmap, os.fork", []string{"python3", "peers/python/life.py"}, "memfd",
		"shared"}, "python3", err)
	for _, method := range []string{"fork", "forkserver"} {
		b.add(program{"Python", "multiprocessing, " + method,
			[]string{"python3", "peers/python/processes.py", method}, "memfd", "shared"},
			"python3", err)
	}
}

// rust builds a copy of the peer, because cargo writes into the folder of the
// sources.
func (b *builder) rust() {
	b.progress.show("build the peer in Rust")
	dir := b.path("rust")
	err := os.CopyFS(dir, os.DirFS("peers/rust"))
	if err == nil {
		err = do(dir, "cargo", "build", "--release", "--offline")
	}
	b.add(program{"Rust", "memmap2, libc::fork",
		[]string{filepath.Join(dir, "target/release/life")}, "memfd", "shared"},
		"cargo, rustc, librust-memmap2-dev, librust-libc-dev", err)
}

func (b *builder) cpp() {
	b.progress.show("build the peer in C++")
	err := do(".", "g++", "-O2", "-o", b.path("life-cpp"), "peers/cpp/life.cpp", "-lrt")
	b.add(program{"C++", "Boost.Interprocess, fork", []string{b.path("life-cpp")}, "anonymous",
		"shared"}, "g++, libboost-dev", err)
}

func (b *builder) plainGo() {
	for _, p := range []struct{ folder, by string }{{"xsys", "x/sys/unix, os/exec"},
		{"mmapgo", "mmap-go, os/exec"}} {
		b.progress.show("build the peer %s", p.folder)
		err := do(".", "go", "build", "-o", b.path("life-"+p.folder), "./peers/"+p.folder)
		b.add(program{"plain Go", p.by, []string{b.path("life-" + p.folder)}, "memfd", "shared"},
			"Go", err)
	}
}
