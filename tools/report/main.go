// Report writes docs/MEASUREMENTS.md, its pictures, and the figures of the
// README from the measurements that are committed in docs/measurements:
//
//	bench.txt  make bench
//	live.txt   make live-bench
//	shared.txt make shared-bench
//	walls.txt  make walls-bench
//	costs.txt, data.json  make compare FULL=1
//
// With -check Report writes nothing, and fails if a file differs from what
// Report would write. So no figure can differ from its measurement.
//
//	go -C tools run ./report [-check]
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"forkshm.example/shm/tools/costs"
	"forkshm.example/shm/tools/measure"
)

func main() {
	check := flag.Bool("check", false, "write nothing, and fail if a file is not up to date")
	root := flag.String("root", "..", "the project's folder")
	flag.Parse()
	files, err := generate(*root)
	for _, name := range sortedNames(files) {
		path := filepath.Join(*root, name)
		switch old, readErr := os.ReadFile(path); {
		case err != nil || readErr == nil && bytes.Equal(old, files[name]):
		case *check:
			err = fmt.Errorf("%s is not what its measurements say: run make report", name)
		default:
			err = os.WriteFile(path, files[name], 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func sortedNames(files map[string][]byte) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// row is a line of a table: what was measured, and what it is compared with.
type row struct {
	What   string
	bench  string
	ours   string // labels, separated by spaces
	theirs string
	unit   string
	Beside string // the text for theirs
}

// The tables, by the file that they are made from.
var tables = map[string][]row{
	"core": {
		{"`Map`, touch, `Close` of 4 KiB, private", "Map", "impl=go sharing=private",
			"impl=c sharing=private", "ns/op", "the same calls in C"},
		{"the same, shared", "Map", "impl=go sharing=shared", "impl=c sharing=shared", "ns/op",
			"the same calls in C"},
		{"raw `Fork` and `Waitpid`", "RawFork", "impl=go", "impl=c", "ns/op",
			"the same calls in C, behind one cgo call"},
		{"`Mapping.Fork` and `Wait` in a small Go program", "ForkWait", "impl=go", "impl=c",
			"ns/op", "fork and waitpid in a small C program"},
		{"access through `Slice`, 64 KiB", "Access", "impl=go by=slice", "impl=heap by=slice",
			"ns/op", "a Go slice"},
	},
	"memory": {
		{"private memory from 1 MiB to 1 GiB by doubling, all touched", "Grow", "impl=go", "impl=c",
			"ns/op", "C's realloc"},
		{"the same", "Grow", "impl=go", "impl=append", "ns/op", "Go's append"},
		{"`Resize` of a touched GiB that must move", "Move", "impl=go", "impl=c", "ns/op",
			"memcpy of a GiB"},
		{"`MoveTo` of a touched GiB", "MoveTo", "impl=go", "impl=c", "ns/op", "memcpy of a GiB"},
		{"shared memory from 1 MiB to 1 GiB by doubling, all touched", "GrowShared", "impl=go",
			"impl=copy", "ns/op", "a new mapping and a copy each time"},
		{"fork's pause beside a touched private GiB, `HugeTransparent`", "ForkPause",
			"huge=transparent", "huge=none", "fork-ns/op", "pages of the usual size"},
	},
	"children": {
		{"`Fork` and `Wait` beside 1 GiB of Go heap", "ForkHeap", "impl=go heap=1024Mi",
			"impl=c heap=1024Mi", "ns/op", "C with as much from malloc"},
		{"the same, `Lean`", "ForkHeap", "impl=lean heap=1024Mi", "impl=lean heap=0Mi", "ns/op",
			"`Lean` without a heap"},
		{"a call to a `Pool`'s child", "Call", "impl=pool", "impl=pingpong", "ns/op",
			"a futex passed there and back in C"},
		{"the same", "Call", "impl=pool", "impl=exec", "ns/op", "os/exec of true"},
		{"`Call`, `Lean`", "Call", "impl=lean", "impl=exec", "ns/op", "os/exec of true"},
	},
	"buffer": {
		{"appending 64 MiB, 32 KiB at a time", "Buffer", "impl=shm size=64Mi",
			"impl=bytes.Buffer size=64Mi", "ns/op", "bytes.Buffer"},
		{"appending 1 GiB", "Buffer", "impl=shm size=1024Mi", "impl=bytes.Buffer size=1024Mi",
			"ns/op", "bytes.Buffer"},
		{"appending 1 GiB", "Buffer", "impl=shm size=1024Mi", "impl=append size=1024Mi", "ns/op",
			"append"},
	},
	"walls": {
		{"to the first line of a fork server's child", "ForkServer", "impl=server heap=0Mi", "impl=c heap=0Mi",
			"first-ns/op", "fork in a small C program"},
		{"the same, until the child is reaped", "ForkServer", "impl=server heap=0Mi", "impl=c heap=0Mi",
			"ns/op", "fork and waitpid in a small C program"},
		{"to its first line, beside 1 GiB of Go heap", "ForkServer", "impl=server heap=1024Mi",
			"impl=server heap=0Mi", "first-ns/op", "a fork server without a heap beside it"},
		{"until it is reaped, beside 1 GiB of Go heap", "ForkServer", "impl=server heap=1024Mi",
			"impl=server heap=0Mi", "ns/op", "a fork server without a heap beside it"},
		{"a child of a fork server in a `Sandbox`", "ForkServer", "impl=sandbox heap=0Mi",
			"impl=server heap=0Mi", "ns/op", "one without a sandbox"},
		{"`Call` in a `Sandbox`", "Sandbox", "end=exit impl=sandbox", "end=exit impl=closefds", "ns/op",
			"without one, descriptors closed"},
		{"the end of a child by a denied call", "Sandbox", "end=error impl=denied", "end=error impl=crash",
			"ns/op", "by a crash, with its report"},
		{"`Pool.Do`, 4 KiB in and out", "Do", "impl=do size=4Ki", "impl=call size=4Ki", "ns/op",
			"`Pool.Call` on shared memory"},
		{"`Pool.Do`, 1 MiB in and out", "Do", "impl=do size=1024Ki", "impl=copies size=1024Ki", "ns/op",
			"two copies and `Pool.Call`"},
		{"`Pool.DoView`, 1 MiB in and out", "Do", "impl=view size=1024Ki", "impl=copies size=1024Ki",
			"ns/op", "two copies and `Pool.Call`"},
	},
	"shared": {
		{"`Lock` and `Unlock` of a `Mutex` in Go", "Lock", "lang=go impl=shared", "lang=go impl=sync.Mutex",
			"ns/op", "sync.Mutex"},
		{"`shm_lock` and `shm_unlock` in C", "Lock", "lang=c impl=shared", "lang=c impl=pthread-robust", "ns/op",
			"a robust mutex of pthreads that processes share"},
		{"a lock handed over to another process and back, in C", "HandOver", "impl=shared-c", "impl=futex",
			"ns/op", "a futex passed there and back"},
		{"the same, from Go to a child in C", "HandOver", "impl=shared-go", "impl=futex", "ns/op",
			"a futex passed there and back, in C"},
		{"from a child's kill to `ErrOwnerDied`", "Death", "by=lock", "by=wait", "ns/op", "to the end of Wait"},
		{"`shm_alloc` and `shm_free` of 64 bytes in C", "Arena", "lang=c impl=shared", "lang=c impl=malloc",
			"ns/op", "malloc and free of glibc"},
		{"`Alloc` and `Free` of 64 bytes in Go", "Arena", "lang=go impl=shared", "lang=c impl=malloc", "ns/op",
			"malloc and free of glibc, in C"},
		{"mending an arena of 200 000 blocks after a death", "ArenaRecovery", "impl=shared", "impl=cells",
			"ns/op", "one look at each cell"},
		{"a record of 64 bytes by a `Ring` and one back by another, in C", "RingPingPong", "impl=shared-c",
			"impl=futex", "ns/op", "a futex passed there and back"},
		{"the same, from Go to a child in C", "RingPingPong", "impl=shared-go", "impl=futex", "ns/op",
			"a futex passed there and back, in C"},
		{"a record of 64 bytes in a stream, from C to C", "RingStream", "impl=shared-c record=64B",
			"impl=pipe record=64B", "ns/op", "write and read of a pipe, in C"},
		{"the same, from Go to C", "RingStream", "impl=shared-go-to-c record=64B", "impl=pipe record=64B",
			"ns/op", "write and read of a pipe, in C"},
		{"the same, from C to Go", "RingStream", "impl=shared-c-to-go record=64B", "impl=pipe record=64B",
			"ns/op", "write and read of a pipe, in C"},
		{"a record of 1 MiB, a byte of each page written and read, from C to C", "RingStream", "impl=shared-c record=1MiB",
			"impl=pipe record=1MiB", "ns/op", "write and read of a pipe of 1 MiB, in C"},
		{"the same, from C to Go", "RingStream", "impl=shared-c-to-go record=1MiB", "impl=pipe record=1MiB",
			"ns/op", "write and read of a pipe of 1 MiB, in C"},
	},
	"live": {
		{"pause of `live.Go`, a small heap", "Fork", "impl=live heap=0Mi", "impl=c heap=0Mi",
			"pause-ns/op", "C's fork"},
		{"pause of `live.Go`, 64 MiB of heap", "Fork", "impl=live heap=64Mi", "impl=c heap=64Mi",
			"pause-ns/op", "C's fork, as much from malloc"},
		{"pause of `live.Go`, 1 GiB of heap", "Fork", "impl=live heap=1024Mi", "impl=c heap=1024Mi",
			"pause-ns/op", "C's fork, as much from malloc"},
		{"the same after `CollapseHeap`", "Fork", "impl=live,huge heap=1024Mi",
			"impl=c heap=1024Mi", "pause-ns/op", "C's fork, as much from malloc"},
		{"pause of `live.Go`, 1 GiB of heap", "Fork", "impl=live heap=1024Mi",
			"impl=python heap=1024Mi", "pause-ns/op", "Python's os.fork"},
		{"to the child's first goroutine, a small heap", "Fork", "impl=live heap=0Mi",
			"impl=exec heap=0Mi", "first-ns/op", "os/exec of the same program"},
	},
}

// The figures of the README, from the comparison.
var readmeTable = []row{
	{"map 4 KiB, shared", "Life", "impl=go technique=anonymous sharing=shared size=4096",
		"impl=c technique=anonymous sharing=shared size=4096", "map-ns", "mmap in C"},
	{"fork a child and reap it, small program", "Life", "impl=go technique=anonymous " +
		"sharing=shared size=4096", "impl=c technique=anonymous sharing=shared size=4096",
		"child-ns", "a small C program"},
	{"grow a private GiB to two", "Life", "impl=go technique=anonymous sharing=private " +
		"size=1073741824", "impl=c technique=anonymous sharing=private size=1073741824", "grow-ns",
		"mremap in C"},
	{"a fork's pause beside a shared GiB", "Life", "impl=go technique=anonymous sharing=shared " +
		"size=1073741824", "impl=go technique=anonymous sharing=private size=1073741824", "fork-ns",
		"beside a private GiB"},
}

// line is a row with its figures.
type line struct {
	row
	Ours, Theirs, Ratio string
}

// figures returns the lines of a table for which there are measurements.
func figures(rows []*measure.Row, table []row) []line {
	var lines []line
	for _, r := range table {
		ours := measure.Find(rows, r.bench, strings.Fields(r.ours)...)
		theirs := measure.Find(rows, r.bench, strings.Fields(r.theirs)...)
		if ours == nil || theirs == nil || len(ours.Values[r.unit]) == 0 ||
			len(theirs.Values[r.unit]) == 0 {
			continue
		}
		ratio, ok := measure.Ratio(ours.Values[r.unit], theirs.Values[r.unit])
		if !ok {
			continue
		}
		lines = append(lines, line{r, measure.Nanoseconds(measure.Of(ours.Values[r.unit]).Median),
			measure.Nanoseconds(measure.Of(theirs.Values[r.unit]).Median),
			fmt.Sprintf("%s (%s to %s)", measure.Times(ratio.Median), measure.Times(ratio.Low),
				measure.Times(ratio.High))})
	}
	return lines
}

//go:embed measurements.md.tmpl
var text string

const folder = "docs/measurements"

// generate returns the files that the measurements make.
func generate(root string) (map[string][]byte, error) {
	rows := map[string][]*measure.Row{}
	for _, name := range []string{"bench.txt", "live.txt", "shared.txt", "walls.txt", "costs.txt"} {
		var err error
		if rows[name], err = readRows(filepath.Join(root, folder, name)); err != nil {
			return nil, err
		}
	}
	data, err := readData(filepath.Join(root, folder, "data.json"))
	if err != nil {
		return nil, err
	}
	lines := map[string][]line{"readme": figures(rows["costs.txt"], readmeTable)}
	for name, table := range tables {
		file := "bench.txt"
		if name == "live" || name == "shared" || name == "walls" {
			file = name + ".txt"
		}
		lines[name] = figures(rows[file], table)
	}
	files := map[string][]byte{}
	if err := document(files, lines, costs.Of(rows["costs.txt"]), data); err != nil {
		return nil, err
	}
	return files, readme(files, root, lines)
}

// readRows reads a file of measurements. If the file is missing, there are
// none.
func readRows(path string) ([]*measure.Row, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return measure.Read(bytes.NewReader(b), filepath.Base(path))
}

// data is what data.json has of a comparison, except its costs.
type data struct {
	Plan, Date string
	Machine    struct{ CPU, Kernel, Go, CC, LoadBefore, LoadAfter string }
	Advice     []string
	Peers      []struct {
		Name, Grow, Crash string
		Steps             map[string]measure.Figure
	}
}

func readData(path string) (*data, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return new(data), nil
	} else if err != nil {
		return nil, err
	}
	d := new(data)
	return d, json.Unmarshal(b, d)
}

// document makes MEASUREMENTS.md and its pictures.
func document(files map[string][]byte, lines map[string][]line, all costs.All, d *data) error {
	var pictures []string
	for i, svg := range all.Curves() {
		name := "cost-" + costs.Steps[i].Name + ".svg"
		files[filepath.Join(folder, name)] = []byte(svg + "\n")
		pictures = append(pictures, "measurements/"+name)
	}
	t, err := template.New("").Funcs(template.FuncMap{
		"ns":    measure.Nanoseconds,
		"bytes": measure.Bytes,
		"title": func(t string) string { return costs.Titles[t] },
		"ratio": func(c *costs.Cost) string {
			if c == nil || c.Ratio == nil {
				return ""
			}
			return fmt.Sprintf("%s, %s (%s to %s)", measure.Nanoseconds(c.Ours.Median),
				measure.Times(c.Ratio.Median), measure.Times(c.Ratio.Low),
				measure.Times(c.Ratio.High))
		},
		"cost": all.Find,
	}).Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	err = t.Execute(&b,
		map[string]any{"Lines": lines, "Data": d, "Pictures": pictures, "Sizes": all.Sizes(),
			"Steps": costs.Steps, "Sharings": costs.Sharings, "Techniques": costs.Techniques,
			"PeerSteps": []string{"map", "touch", "fork", "child", "grow", "unmap"}})
	files["docs/MEASUREMENTS.md"] = b.Bytes()
	return err
}

const (
	begin = "<!-- measured: made by make report -->\n"
	end   = "<!-- end -->\n"
)

// readme puts the figures into the README, between its two marks. A README
// without marks stays as it is.
func readme(files map[string][]byte, root string, lines map[string][]line) error {
	old, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(old, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return nil
	}
	b := bytes.NewBuffer(slices.Clone(before))
	b.WriteString(begin + "| what | ours | held against | ratio |\n|---|---|---|---|\n")
	for _, l := range lines["readme"] {
		fmt.Fprintf(b, "| %s | %s | %s, %s | %s |\n", l.What, l.Ours, l.Theirs, l.Beside, l.Ratio)
	}
	b.WriteString(end)
	b.Write(after)
	files["README.md"] = b.Bytes()
	return nil
}
