package main

import (
	"fmt"

	"forkshm.example/shm/tools/costs"
	"forkshm.example/shm/tools/measure"
)

// report is all that a run found.
type report struct {
	Plan      string         `json:"plan"`
	Date      string         `json:"date"`
	Machine   machine        `json:"machine"`
	Behaviour []behaviour    `json:"behaviour"`
	Syscalls  []syscalls     `json:"syscalls"`
	Costs     costs.All      `json:"costs"`
	Peers     []peer         `json:"peers"`
	Skipped   []string       `json:"skipped"`
	Advice    []string       `json:"advice"`
	Took      string         `json:"took"`
	rows      []*measure.Row // of the costs
}

// machine is the machine that the report was made on.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	CC         string `json:"cc"`
	LoadBefore string `json:"loadBefore"` // of the last minute
	LoadAfter  string `json:"loadAfter"`
}

// behaviour is a row: what the memory of each technique does, by the library,
// and in C where that is not the same.
type behaviour struct {
	Name  string            `json:"name"`
	Cells map[string]string `json:"cells"`         // by technique and sharing: "devzero shared"
	InC   map[string]string `json:"inC,omitempty"` // where C's differ, or are missing
}

// syscalls are the system calls of one map, touch, fork, wait and unmap.
type syscalls struct {
	Technique string   `json:"technique"`
	InC       []string `json:"inC"`
	InGo      []string `json:"inGo"`
}

// peer is what another language, or another library, takes for the same work.
type peer struct {
	Name  string                    `json:"name"`
	Steps map[string]measure.Figure `json:"steps"`
	Grow  string                    `json:"grow"`
	Crash string                    `json:"crash"`
}

// peerSteps are the steps that all peers have.
var peerSteps = []string{"map", "touch", "fork", "child", "access", "grow", "unmap"}

// differences names the cells in which C and the library differ.
func (r *report) differences() []string {
	var wrong []string
	for _, row := range r.Behaviour {
		for _, sharing := range costs.Sharings {
			for _, technique := range costs.Techniques {
				kind := technique + " " + sharing
				if inC, differs := row.InC[kind]; differs {
					wrong = append(wrong,
						fmt.Sprintf("%q of %s %s memory is %q in C, %q by the library",
							row.Name, sharing, costs.Titles[technique], inC, row.Cells[kind]))
				}
			}
		}
	}
	return wrong
}

// cell returns a row's cell, or "" if there is no such row.
func (r *report) cell(name, technique, sharing string) string {
	for _, row := range r.Behaviour {
		if row.Name == name {
			return row.Cells[technique+" "+sharing]
		}
	}
	return ""
}

// differs returns whether the techniques differ in a row, with this sharing.
func (b behaviour) differs(sharing string) bool {
	first := b.Cells[costs.Techniques[0]+" "+sharing]
	for _, t := range costs.Techniques {
		if b.Cells[t+" "+sharing] != first {
			return true
		}
	}
	return false
}
