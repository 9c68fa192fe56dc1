package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"forkshm.example/shm/tools/costs"
	"forkshm.example/shm/tools/measure"
)

// text returns the report for a terminal.
func (r *report) text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(&b, "The techniques compared, %s, %s, %d cores, %s, %s. Load %s before, %s "+
		"after. Took %s.\n",
		r.Machine.Kernel, r.Machine.CPU, r.Machine.Cores, r.Machine.Go, r.Machine.CC,
		r.Machine.LoadBefore, r.Machine.LoadAfter, r.Took)
	fmt.Fprintln(&b, "\nAdvice")
	for i, a := range r.Advice {
		fmt.Fprintf(&b, "%d. %s\n", i+1, a)
	}
	r.behaviourTables(&b, w)
	r.syscallLists(&b)
	r.costTables(&b, w)
	r.peerTable(&b, w)
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "Not compared: %s\n", s)
	}
	return b.String()
}

func (r *report) behaviourTables(b *strings.Builder, w *tabwriter.Writer) {
	for _, sharing := range costs.Sharings {
		fmt.Fprintf(b, "\nWhat %s memory does (* the techniques differ)\n", sharing)
		fmt.Fprintf(w, "\t\t%s\t%s\t%s\n", costs.Titles["anonymous"], costs.Titles["devzero"],
			costs.Titles["memfd"])
		for _, row := range r.Behaviour {
			mark := ""
			if row.differs(sharing) {
				mark = "*"
			}
			fmt.Fprintf(w, "%s\t%s", mark, row.Name)
			for _, t := range costs.Techniques {
				fmt.Fprintf(w, "\t%s", row.Cells[t+" "+sharing])
			}
			fmt.Fprintln(w)
		}
		_ = w.Flush()
	}
}

func (r *report) syscallLists(b *strings.Builder) {
	for _, s := range r.Syscalls {
		fmt.Fprintf(b, "\nSystem calls to map %s shared, touch, fork, wait and unmap, in C\n",
			costs.Titles[s.Technique])
		for _, line := range s.InC {
			fmt.Fprintf(b, "  %s\n", line)
		}
		fmt.Fprintln(b, "by the library")
		for _, line := range s.InGo {
			fmt.Fprintf(b, "  %s\n", line)
		}
	}
}

func (r *report) costTables(b *strings.Builder, w *tabwriter.Writer) {
	for _, bytes := range r.Costs.Sizes() {
		fmt.Fprintf(b, "\nCosts at %s: ours; times C, with the interval of that ratio; page "+
			"faults, ours and C's\n", measure.Bytes(bytes))
		fmt.Fprintf(w, "\t\t%s\t\t%s\t\t%s\t\n", costs.Titles["anonymous"], costs.Titles["devzero"],
			costs.Titles["memfd"])
		for _, sharing := range costs.Sharings {
			for _, s := range costs.Steps {
				fmt.Fprintf(w, "%s\t%s", sharing, s.What)
				for _, t := range costs.Techniques {
					fmt.Fprintf(w, "\t%s", r.costCell(r.Costs.Find(s.Name, t, sharing, bytes)))
				}
				fmt.Fprintln(w)
			}
		}
		_ = w.Flush()
	}
}

// costCell returns two columns.
func (r *report) costCell(c *costs.Cost) string {
	if c == nil {
		return "-\t"
	}
	ratio := ""
	if c.Ratio != nil {
		ratio = fmt.Sprintf("%s (%s to %s)", measure.Times(c.Ratio.Median),
			measure.Times(c.Ratio.Low), measure.Times(c.Ratio.High))
	}
	return fmt.Sprintf("%s\t%s; %.0f, %.0f", measure.Nanoseconds(c.Ours.Median), ratio,
		c.Faults.Median, c.FaultsInC.Median)
}

func (r *report) peerTable(b *strings.Builder, w *tabwriter.Writer) {
	if len(r.Peers) == 0 {
		return
	}
	fmt.Fprintf(b, "\nThe same work at 1 MiB, by others\n")
	fmt.Fprint(w, "by")
	for _, s := range peerSteps {
		fmt.Fprintf(w, "\t%s", s)
	}
	fmt.Fprintln(w, "\tgrowth\ta crash of the child tells")
	for _, p := range r.Peers {
		fmt.Fprint(w, p.Name)
		for _, s := range peerSteps {
			cell := "-"
			if f, ok := p.Steps[s]; ok {
				cell = measure.Nanoseconds(f.Median)
			}
			fmt.Fprintf(w, "\t%s", cell)
		}
		fmt.Fprintf(w, "\t%s\t%s\n", p.Grow, p.Crash)
	}
	_ = w.Flush()
}
