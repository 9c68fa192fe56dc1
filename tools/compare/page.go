package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"

	"forkshm.example/shm/tools/chart"
	"forkshm.example/shm/tools/measure"
)

//go:embed page.html
var page string

// html returns the report as one page that needs no other file.
func (r *report) html() ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"title":   func(technique string) string { return titles[technique] },
		"ns":      measure.Nanoseconds,
		"times":   measure.Times,
		"bytes":   measure.Bytes,
		"percent": func(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) },
		"spread": func(f measure.Figure) string {
			return measure.Nanoseconds(f.Low) + " to " + measure.Nanoseconds(f.High)
		},
		"differs": func(b behaviour, sharing string) bool { return b.differs(sharing) },
		"cell":    func(b behaviour, technique, sharing string) string { return b.Cells[technique+" "+sharing] },
		"wrong": func(b behaviour, technique, sharing string) string {
			return b.InC[technique+" "+sharing]
		},
		"cost": r.find,
	}).Parse(page)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Report": r, "Techniques": techniques, "Sharings": sharings, "Steps": steps, "PeerSteps": peerSteps,
		"Sizes": r.sizes(), "Curves": r.curves(), "Ratios": r.ratios(), "Keys": r.keys(),
		"Differences": r.differences(),
	})
	return b.Bytes(), err
}

// series returns one line for each kind of memory.
func (r *report) series(step string) []chart.Series {
	var all []chart.Series
	for colour, t := range techniques {
		for _, sharing := range sharings {
			s := chart.Series{Name: titles[t] + ", " + sharing, Colour: colour, Dashed: sharing == "private"}
			for _, bytes := range r.sizes() {
				if c := r.find(step, t, sharing, bytes); c != nil {
					s.Points = append(s.Points, chart.Point{X: float64(bytes), Figure: c.Ours})
				}
			}
			all = append(all, s)
		}
	}
	return all
}

// keys returns what the legend of the curves shows.
func (r *report) keys() []template.HTML {
	var keys []template.HTML
	for _, s := range r.series("map") {
		keys = append(keys, s.Key())
	}
	return keys
}

// curves returns a picture for each step.
func (r *report) curves() []template.HTML {
	var all []template.HTML
	for _, s := range steps {
		c := chart.Curves{Title: s.what, Series: r.series(s.name),
			XText: func(x float64) string { return measure.Bytes(int(x)) },
			YText: measure.Round}
		all = append(all, c.Draw())
	}
	return all
}

// ratios returns a picture for the smallest size and for the largest: what the
// library takes, by what C takes.
func (r *report) ratios() []template.HTML {
	sizes := r.sizes()
	if len(sizes) == 0 {
		return nil
	}
	var all []template.HTML
	for _, bytes := range []int{sizes[0], sizes[len(sizes)-1]} {
		for _, sharing := range sharings {
			chart := chart.Ratios{Title: fmt.Sprintf("%s, %s: the library's time by C's", measure.Bytes(bytes), sharing)}
			chart.Bars = r.bars(bytes, sharing)
			all = append(all, chart.Draw())
		}
	}
	return all
}

func (r *report) bars(bytes int, sharing string) []chart.Bar {
	var bars []chart.Bar
	for _, s := range steps {
		for colour, t := range techniques {
			if c := r.find(s.name, t, sharing, bytes); c != nil && c.Ratio != nil {
				bars = append(bars, chart.Bar{Label: s.name + ", " + titles[t], Colour: colour, Figure: *c.Ratio})
			}
		}
	}
	return bars
}

// pictures returns the pictures by the names of their files.
func (r *report) pictures() map[string]template.HTML {
	all := map[string]template.HTML{}
	for i, svg := range r.curves() {
		all["cost-"+steps[i].name+".svg"] = svg
	}
	names := []string{"smallest-private", "smallest-shared", "largest-private", "largest-shared"}
	for i, svg := range r.ratios() {
		all["ratio-"+names[i]+".svg"] = svg
	}
	return all
}
