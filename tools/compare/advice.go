package main

import (
	"fmt"
	"strings"

	"forkshm.example/shm/tools/costs"
	"forkshm.example/shm/tools/measure"
)

// advise says in five sentences when to choose which. Each follows from rows of
// the report, and says something else where the rows do.
func (r *report) advise() []string {
	return []string{r.adviseDevice(), r.adviseGrowth(), r.adviseFork(), r.adviseMap(),
		r.adviseLibrary()}
}

// listed returns "A", "A and B" or "A, B and C".
func listed(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// split splits the techniques by what a row's cell is for them.
func (r *report) split(row, sharing, cell string) (with, without []string) {
	for _, t := range costs.Techniques {
		if r.cell(row, t, sharing) == cell {
			with = append(with, costs.Titles[t])
		} else {
			without = append(without, costs.Titles[t])
		}
	}
	return with, without
}

func (r *report) adviseDevice() string {
	with, without := r.split("maps in a chroot without /dev", "shared", "yes")
	if len(without) == 0 {
		return "No technique needs a device: all of them map in a chroot without /dev."
	}
	if len(with) == 0 {
		return "Whether a technique needs /dev was not found out: the program could not change " +
			"its root folder."
	}
	return fmt.Sprintf("Choose %s where /dev may be missing: %s fails there (%s).",
		listed(with), listed(without), r.cell("maps in a chroot without /dev", "devzero", "shared"))
}

func (r *report) adviseGrowth() string {
	with, without := r.split("grows by mremap", "shared", "yes")
	if len(with) == 0 {
		return "No technique's shared memory grows past its first size: map it larger at first."
	}
	if len(without) == 0 {
		return "The shared memory of each technique grows past its first size."
	}
	return fmt.Sprintf("Choose %s for shared memory that is to grow: with %s, mremap succeeds "+
		"and the first touch of the new bytes is %s, so that Resize refuses.",
		listed(with), listed(without), r.cell("grows by mremap", "anonymous", "shared"))
}

func (r *report) adviseFork() string {
	sizes := r.Costs.Sizes()
	if len(sizes) == 0 {
		return "What a fork costs was not measured."
	}
	largest := sizes[len(sizes)-1]
	private, shared := r.Costs.Find("fork", "anonymous", "private", largest),
		r.Costs.Find("fork", "anonymous", "shared", largest)
	if private == nil || shared == nil {
		return "What a fork costs was not measured."
	}
	factor := private.Ours.Median / shared.Ours.Median
	if factor < 1.5 {
		return fmt.Sprintf("A fork beside %s of touched memory takes about as long if that is "+
			"private (%s) as if it is shared (%s).",
			measure.Bytes(largest), measure.Nanoseconds(private.Ours.Median),
			measure.Nanoseconds(shared.Ours.Median))
	}
	return fmt.Sprintf("Keep large data in shared memory if the program forks: a fork beside %s "+
		"takes %s if that is private and touched, and %s if it is shared, %s times less.",
		measure.Bytes(largest), measure.Nanoseconds(private.Ours.Median),
		measure.Nanoseconds(shared.Ours.Median), measure.Times(factor))
}

func (r *report) adviseMap() string {
	sizes := r.Costs.Sizes()
	if len(sizes) == 0 {
		return "What a mapping costs was not measured."
	}
	var said []string
	for _, bytes := range []int{sizes[0], sizes[len(sizes)-1]} {
		var cheapest, dearest *costs.Cost
		for _, t := range costs.Techniques {
			c := r.Costs.Find("map", t, "shared", bytes)
			if c == nil {
				continue
			}
			if cheapest == nil || c.Ours.Median < cheapest.Ours.Median {
				cheapest = c
			}
			if dearest == nil || c.Ours.Median > dearest.Ours.Median {
				dearest = c
			}
		}
		if cheapest == nil {
			continue
		}
		said = append(said, fmt.Sprintf("%s is the cheapest to map at %s shared (%s; %s takes %s "+
			"times that)", costs.Titles[cheapest.Technique], measure.Bytes(bytes),
			measure.Nanoseconds(cheapest.Ours.Median), costs.Titles[dearest.Technique],
			measure.Times(dearest.Ours.Median/cheapest.Ours.Median)))
	}
	return listed(said) + "."
}

func (r *report) adviseLibrary() string {
	sizes := r.Costs.Sizes()
	if len(sizes) == 0 {
		return "The library was not held against C."
	}
	smallest, largest := sizes[0], sizes[len(sizes)-1]
	total := func(bytes int) float64 {
		ours, inC := 0.0, 0.0
		for _, s := range []string{"map", "touch", "unmap"} {
			if c := r.Costs.Find(s, "anonymous", "shared", bytes); c != nil {
				ours += c.Ours.Median
				inC += c.InC.Median
			}
		}
		return ours / inC
	}
	child := r.Costs.Find("child", "anonymous", "shared", smallest)
	if child == nil || child.Ratio == nil {
		return "The library was not held against C."
	}
	return fmt.Sprintf("The library costs %s times C for mapping, touching and unmapping %s "+
		"shared, %s times for %s; a child, forked and reaped, costs %s times that of a small C "+
		"program, since the Go runtime's pages are copied too.",
		measure.Times(total(smallest)), measure.Bytes(smallest), measure.Times(total(largest)),
		measure.Bytes(largest), measure.Times(child.Ratio.Median))
}
