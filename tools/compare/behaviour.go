package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"forkshm.example/shm/tools/costs"
)

const libraryRow = "library: " // begins a row that C cannot have

// behaviour runs both programs on each kind of memory.
func (b *builder) behaviour() ([]behaviour, error) {
	empty, err := os.MkdirTemp("", "empty")
	if err != nil {
		return nil, err
	}
	defer os.Remove(empty)
	var rows []behaviour
	index := map[string]int{}
	for _, sharing := range costs.Sharings {
		for _, technique := range costs.Techniques {
			kind := technique + " " + sharing
			b.progress.show("what the memory does: %s", kind)
			inC, order, err := cells(b.path("behaviour-c"), technique, sharing, empty)
			if err != nil {
				return nil, err
			}
			inGo, orderInGo, err := cells(b.path("behaviour-go"), technique, sharing, empty)
			if err != nil {
				return nil, err
			}
			for _, name := range append(orderInGo, order...) {
				i, known := index[name]
				if !known {
					i = len(rows)
					index[name] = i
					rows = append(rows, behaviour{name, map[string]string{}, map[string]string{}})
				}
				rows[i].Cells[kind] = inGo[name]
				if inC[name] != inGo[name] && !strings.HasPrefix(name, libraryRow) {
					rows[i].InC[kind] = inC[name]
				}
			}
		}
	}
	return rows, nil
}

// cells runs a program that prints rows. The program changes its root folder.
// So if this process is not root, the program is the root of a new user
// namespace.
func cells(program, technique, sharing,
	empty string) (cells map[string]string, order []string, err error) {
	cmd := exec.Command(program, technique, sharing, empty)
	if os.Geteuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		}
	}
	out, err := cmd.Output()
	if err != nil && cmd.SysProcAttr != nil { // without user namespaces one row is left out
		out, err = exec.Command(program, technique, sharing, empty).Output()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s %s: %w", program, technique, sharing, err)
	}
	cells = map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, cell, _ := strings.Cut(strings.TrimSpace(line), "\t")
		cells[name] = cell
		order = append(order, name)
	}
	return cells, order, nil
}
