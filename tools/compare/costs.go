package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"forkshm.example/shm/tools/costs"
	"forkshm.example/shm/tools/measure"
)

// measure runs all programs in turn, round after round, and writes what they
// print to a file.
func (b *builder) measure(file string, p plan, m machine) ([]*measure.Row, error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fmt.Fprintf(f, "goos: linux\ngoarch: %s\ncpu: %s\nkernel: %s\n", runtime.GOARCH, m.CPU,
		m.Kernel)
	results := map[string]string{} // what every program must agree on
	for round := range p.rounds {
		for _, s := range p.sizes {
			if s.rounds > 0 && round >= s.rounds {
				continue
			}
			b.progress.show("costs: round %d of %d, %s", round+1, p.rounds, measure.Bytes(s.bytes))
			if err := b.techniques(f, s, results); err != nil {
				return nil, err
			}
		}
		for _, peer := range b.peers {
			b.progress.show("costs: round %d of %d, %s", round+1, p.rounds, peer.name)
			name := "Peer/by=" + toLabel.Replace(peer.name+", by "+peer.by)
			if err := b.life(f, name, peer.command, peer.technique, peer.sharing,
				size{1 << 20, 10, 0}, results); err != nil {
				return nil, err
			}
		}
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, err
	}
	return measure.Read(f, file)
}

// techniques measures each kind of memory at one size, C's and ours in
// turn.
func (b *builder) techniques(f *os.File, s size, results map[string]string) error {
	for _, sharing := range costs.Sharings {
		for _, technique := range costs.Techniques {
			name := fmt.Sprintf("Life/impl=%%s/technique=%s/sharing=%s/size=%d", technique, sharing,
				s.bytes)
			if err := b.life(f, fmt.Sprintf(name, "c"), []string{b.path("life-c")}, technique,
				sharing, s, results); err != nil {
				return err
			}
			ours, selected := "life-anonymous", technique
			if technique != "memfd" { // what the build has selected
				ours, selected = "life-"+technique, "default"
			}
			if err := b.life(f, fmt.Sprintf(name, "go"), []string{b.path(ours)}, selected, sharing,
				s, results); err != nil {
				return err
			}
		}
	}
	return nil
}

// life runs a program once, and writes its figures as a line of Go's benchmark
// format.
func (b *builder) life(f *os.File, name string, command []string, technique, sharing string, s size,
	results map[string]string) error {
	args := append(slices.Clone(command[1:]), technique, sharing, strconv.Itoa(s.bytes),
		strconv.Itoa(s.lives))
	out, err := exec.Command(command[0], args...).Output()
	if err != nil {
		return fmt.Errorf("%s %s: %w", command[0], strings.Join(args, " "), err)
	}
	line := fmt.Sprintf("Benchmark%s %d", name, s.lives)
	for l := range strings.Lines(string(out)) {
		words := strings.Fields(l)
		switch {
		case len(words) > 2 && words[0] == "note":
			b.notes[name+" "+words[1]] = strings.Join(words[2:], " ")
		case len(words) == 2 && words[0] == "result":
			key := fmt.Sprintf("%s %d", sharing, s.bytes)
			if old, known := results[key]; known && old != words[1] {
				return fmt.Errorf("%s: the result is %s, and %s for the others: the work is not "+
					"the same", name, words[1], old)
			}
			results[key] = words[1]
		case len(words) == 3:
			line += fmt.Sprintf(" %s %s-ns %s %s-faults", words[1], words[0], words[2], words[0])
		default:
			return fmt.Errorf("%s: unexpected %q", name, l)
		}
	}
	_, err = fmt.Fprintln(f, line)
	return err
}

// The name of a benchmark cannot have blanks and slashes.
var (
	toLabel   = strings.NewReplacer(" ", "_", "/", "|")
	fromLabel = strings.NewReplacer("_", " ", "|", "/")
)

func peersOf(rows []*measure.Row, notes map[string]string) []peer {
	var peers []peer
	for _, row := range rows {
		if row.Name != "Peer" {
			continue
		}
		key := "Peer/by=" + row.Labels["by"]
		p := peer{fromLabel.Replace(row.Labels["by"]), map[string]measure.Figure{},
			notes[key+" grow"], notes[key+" crash"]}
		for _, s := range costs.Steps {
			if v := row.Values[s.Name+"-ns"]; len(v) > 0 {
				p.Steps[s.Name] = measure.Of(v)
			}
		}
		peers = append(peers, p)
	}
	return peers
}
