// Package costs holds the costs of the steps of a mapping's life, as
// tools/compare measures them and reports show them.
package costs

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"

	"forkshm.example/shm/tools/chart"
	"forkshm.example/shm/tools/measure"
)

// Sharings and Techniques are the kinds of memory. Titles has the names of the
// techniques in reports.
var (
	Techniques = []string{"anonymous", "devzero", "memfd"}
	Sharings   = []string{"private", "shared"}
	Titles     = map[string]string{"anonymous": "MAP_ANONYMOUS", "devzero": "/dev/zero",
		"memfd": "memfd"}
)

// Steps are the steps of a mapping's life, in order, with their texts in
// reports.
var Steps = []Step{
	{"map", "map"},
	{"touch", "touch every page"},
	{"fork", "fork beside it: the parent's pause"},
	{"child", "fork beside it, until the child is reaped"},
	{"access", "add up at most 64 KiB"},
	{"grow", "grow to twice the size"},
	{"move", "move, twice the size"},
	{"unmap", "unmap, twice the size"},
}

// Step is a part of a mapping's life.
type Step struct{ Name, What string }

// Cost is what a step takes at a size.
type Cost struct {
	Step      string          `json:"step"`
	Technique string          `json:"technique"`
	Sharing   string          `json:"sharing"`
	Bytes     int             `json:"bytes"`
	Ours      measure.Figure  `json:"ours"` // nanoseconds
	InC       measure.Figure  `json:"inC"`
	Ratio     *measure.Figure `json:"ratio"` // ours by C's, pair by pair
	Faults    measure.Figure  `json:"faults"`
	FaultsInC measure.Figure  `json:"faultsInC"`
}

// Of returns the costs of the library and of C, side by side.
func Of(rows []*measure.Row) All {
	var costs All
	for _, ours := range rows {
		if ours.Name != "Life" || ours.Labels["impl"] != "go" {
			continue
		}
		l := ours.Labels
		inC := measure.Find(rows, "Life", "impl=c", "technique="+l["technique"],
			"sharing="+l["sharing"], "size="+l["size"])
		if inC == nil {
			continue
		}
		bytes, _ := strconv.Atoi(l["size"])
		for _, s := range Steps {
			ns, faults := s.Name+"-ns", s.Name+"-faults"
			if len(ours.Values[ns]) == 0 || len(inC.Values[ns]) == 0 {
				continue
			}
			c := Cost{s.Name, l["technique"], l["sharing"], bytes, measure.Of(ours.Values[ns]),
				measure.Of(inC.Values[ns]), nil,
				measure.Of(ours.Values[faults]), measure.Of(inC.Values[faults])}
			if ratio, ok := measure.Ratio(ours.Values[ns], inC.Values[ns]); ok {
				c.Ratio = &ratio
			}
			costs = append(costs, c)
		}
	}
	return costs
}

// All are costs.
type All []Cost

// Find returns the cost of a step, or nil.
func (all All) Find(step, technique, sharing string, bytes int) *Cost {
	for i, c := range all {
		if c.Step == step && c.Technique == technique && c.Sharing == sharing && c.Bytes == bytes {
			return &all[i]
		}
	}
	return nil
}

// Sizes returns the sizes that were measured, in order.
func (all All) Sizes() []int {
	var sizes []int
	for _, c := range all {
		if !slices.Contains(sizes, c.Bytes) {
			sizes = append(sizes, c.Bytes)
		}
	}
	slices.Sort(sizes)
	return sizes
}

// series returns a curve for each kind of memory.
func (all All) series(step string) []chart.Series {
	var lines []chart.Series
	for colour, t := range Techniques {
		for _, sharing := range Sharings {
			s := chart.Series{Name: Titles[t] + ", " + sharing, Colour: colour,
				Dashed: sharing == "private"}
			for _, bytes := range all.Sizes() {
				if c := all.Find(step, t, sharing, bytes); c != nil {
					s.Points = append(s.Points, chart.Point{X: float64(bytes), Figure: c.Ours})
				}
			}
			lines = append(lines, s)
		}
	}
	return lines
}

// Keys returns the entries of the curves' legend.
func (all All) Keys() []template.HTML {
	var keys []template.HTML
	for _, s := range all.series("map") {
		keys = append(keys, s.Key())
	}
	return keys
}

// Curves returns a picture for each step.
func (all All) Curves() []template.HTML {
	var pictures []template.HTML
	for _, s := range Steps {
		c := chart.Curves{Title: s.What, Series: all.series(s.Name),
			XText: func(x float64) string { return measure.Bytes(int(x)) },
			YText: measure.Round}
		pictures = append(pictures, c.Draw())
	}
	return pictures
}

// Ratios returns a picture for the smallest size and for the largest: what the
// library takes, by what C takes.
func (all All) Ratios() []template.HTML {
	sizes := all.Sizes()
	if len(sizes) == 0 {
		return nil
	}
	var pictures []template.HTML
	for _, bytes := range []int{sizes[0], sizes[len(sizes)-1]} {
		for _, sharing := range Sharings {
			chart := chart.Ratios{Title: fmt.Sprintf("%s, %s: the library's time by C's",
				measure.Bytes(bytes), sharing)}
			chart.Bars = all.bars(bytes, sharing)
			pictures = append(pictures, chart.Draw())
		}
	}
	return pictures
}

func (all All) bars(bytes int, sharing string) []chart.Bar {
	var bars []chart.Bar
	for _, s := range Steps {
		for colour, t := range Techniques {
			if c := all.Find(s.Name, t, sharing, bytes); c != nil && c.Ratio != nil {
				bars = append(bars,
					chart.Bar{Label: s.Name + ", " + Titles[t], Colour: colour, Figure: *c.Ratio})
			}
		}
	}
	return bars
}
