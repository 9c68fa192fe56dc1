package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"

	"forkshm.example/shm/tools/costs"
	"forkshm.example/shm/tools/measure"
)

//go:embed page.html
var page string

// html returns the report as one page that needs no other file.
func (r *report) html() ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"title":   func(technique string) string { return costs.Titles[technique] },
		"ns":      measure.Nanoseconds,
		"times":   measure.Times,
		"bytes":   measure.Bytes,
		"percent": func(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) },
		"spread": func(f measure.Figure) string {
			return measure.Nanoseconds(f.Low) + " to " + measure.Nanoseconds(f.High)
		},
		"differs": func(b behaviour, sharing string) bool { return b.differs(sharing) },
		"cell": func(b behaviour, technique, sharing string) string {
			return b.Cells[technique+" "+sharing]
		},
		"wrong": func(b behaviour, technique, sharing string) string {
			return b.InC[technique+" "+sharing]
		},
		"cost": r.Costs.Find,
	}).Parse(page)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Report": r, "Techniques": costs.Techniques, "Sharings": costs.Sharings,
		"Steps": costs.Steps, "PeerSteps": peerSteps,
		"Sizes": r.Costs.Sizes(), "Curves": r.Costs.Curves(), "Ratios": r.Costs.Ratios(),
		"Keys":        r.Costs.Keys(),
		"Differences": r.differences(),
	})
	return b.Bytes(), err
}

// pictures returns the pictures by the names of their files.
func (r *report) pictures() map[string]template.HTML {
	all := map[string]template.HTML{}
	for i, svg := range r.Costs.Curves() {
		all["cost-"+costs.Steps[i].Name+".svg"] = svg
	}
	names := []string{"smallest-private", "smallest-shared", "largest-private", "largest-shared"}
	for i, svg := range r.Costs.Ratios() {
		all["ratio-"+names[i]+".svg"] = svg
	}
	return all
}
