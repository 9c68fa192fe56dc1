// Package chart draws figures as SVG, for pages of light and dark colours. A
// drawing needs no script, no font and no other file.
package chart

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"forkshm.example/shm/tools/measure"
)

// Point is a figure at a place of the horizontal axis.
type Point struct {
	X      float64
	Figure measure.Figure
}

// Series is a line of points. Series tell apart by colour, marker and dash, so
// that no reader needs to tell colours apart.
type Series struct {
	Name   string
	Colour int // 0, 1 or 2
	Dashed bool
	Points []Point
}

// Curves is a chart of series over sizes. Both axes are logarithmic.
type Curves struct {
	Title  string
	Series []Series
	XText  func(float64) string // labels of the axes
	YText  func(float64) string
}

const style = `<style>
.t{fill:currentColor;font:12px system-ui,sans-serif}
.h{fill:currentColor;font:600 14px system-ui,sans-serif}
.g{stroke:currentColor;stroke-opacity:.18;fill:none}
.one{stroke:currentColor;stroke-opacity:.7;fill:none}
.c0{stroke:#0072b2;fill:#0072b2}.c1{stroke:#d55e00;fill:#d55e00}.c2{stroke:#009e73;fill:#009e73}
.l{fill:none;stroke-width:2}.d{stroke-dasharray:6 4}.m{stroke-width:1}.w{stroke-width:1.5;fill:none}
svg{color:#1b1b1b}
@media (prefers-color-scheme:dark){svg{color:#e8e8e8}.c0{stroke:#56b4e9;fill:#56b4e9}.c1{stroke:#f0a04b;fill:#f0a04b}.c2{stroke:#3fc79a;fill:#3fc79a}}
</style>`

var templates = template.Must(template.New("").Parse(`
{{define "curves"}}<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="{{.Title}}">` + style + `
<text class="h" x="4" y="18">{{.Title}}</text>
{{range .YTicks}}<path class="g" d="M{{$.Left}} {{.At}}H{{$.Right}}"/><text class="t" x="{{.Text.X}}" y="{{.Text.Y}}" text-anchor="end">{{.Text.S}}</text>
{{end}}{{range .XTicks}}<path class="g" d="M{{.At}} {{$.Top}}V{{$.Bottom}}"/><text class="t" x="{{.Text.X}}" y="{{.Text.Y}}" text-anchor="middle">{{.Text.S}}</text>
{{end}}{{range .Lines}}<g class="c{{.Colour}}"><path class="l{{if .Dashed}} d{{end}}" d="{{.Path}}"/>{{range .Whiskers}}<path class="w" d="{{.}}"/>{{end}}{{range .Markers}}<path class="m" d="{{.}}"/>{{end}}</g>
{{end}}</svg>{{end}}
{{define "bars"}}<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="{{.Title}}">` + style + `
<text class="h" x="4" y="18">{{.Title}}</text>
{{range .XTicks}}<path class="{{.Class}}" d="M{{.At}} {{$.Top}}V{{$.Bottom}}"/><text class="t" x="{{.Text.X}}" y="{{.Text.Y}}" text-anchor="middle">{{.Text.S}}</text>
{{end}}{{range .Bars}}<text class="t" x="{{.Label.X}}" y="{{.Label.Y}}" text-anchor="end">{{.Label.S}}</text><g class="c{{.Colour}}"><path d="{{.Bar}}" fill-opacity=".35"/><path class="w" d="{{.Whisker}}"/></g><text class="t" x="{{.Value.X}}" y="{{.Value.Y}}">{{.Value.S}}</text>
{{end}}</svg>{{end}}
{{define "key"}}<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} 22" width="{{.Width}}" height="22" role="img" aria-label="{{.Name}}">` + style + `<g class="c{{.Colour}}"><path class="l{{if .Dashed}} d{{end}}" d="M2 11H44"/><path class="m" d="{{.Marker}}"/></g><text class="t" x="52" y="15">{{.Name}}</text></svg>{{end}}
`))

type label struct {
	X, Y float64
	S    string
}

type tick struct {
	At    float64
	Class string
	Text  label
}

func render(name string, data any) template.HTML {
	var b strings.Builder
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		panic(err)
	}
	return template.HTML(b.String())
}

// axis maps values to places on a logarithmic scale.
type axis struct{ low, high, from, to float64 }

func (a axis) at(v float64) float64 {
	t := (math.Log(v) - math.Log(a.low)) / (math.Log(a.high) - math.Log(a.low))
	return math.Round((a.from+t*(a.to-a.from))*10) / 10
}

// Draw returns the chart as SVG.
func (c *Curves) Draw() template.HTML {
	const width, height, left, right, top, bottom = 460.0, 300.0, 66.0, 430.0, 32.0, 268.0
	x, y := axis{math.Inf(1), 0, left, right}, axis{math.Inf(1), 0, bottom, top}
	places := c.fit(&x, &y)
	data := struct {
		Title                                   string
		Width, Height, Left, Right, Top, Bottom float64
		XTicks, YTicks                          []tick
		Lines                                   []line
	}{c.Title, width, height, left, right, top, bottom, nil, nil, nil}
	for v := y.low; v <= y.high*1.0001; v *= 10 {
		data.YTicks = append(data.YTicks,
			tick{y.at(v), "g", label{left - 6, y.at(v) + 4, c.YText(v)}})
	}
	for v := range places {
		data.XTicks = append(data.XTicks,
			tick{x.at(v), "g", label{x.at(v), bottom + 18, c.XText(v)}})
	}
	for _, s := range c.Series {
		data.Lines = append(data.Lines, s.line(x, y))
	}
	sortTicks(data.XTicks)
	return render("curves", data)
}

// fit widens the axes to all points, and returns the places of the points on
// the x axis.
func (c *Curves) fit(x, y *axis) map[float64]bool {
	places := map[float64]bool{}
	for _, s := range c.Series {
		for _, p := range s.Points {
			places[p.X] = true
			x.low, x.high = min(x.low, p.X), max(x.high, p.X)
			y.low, y.high = min(y.low, p.Figure.Low), max(y.high, p.Figure.High)
		}
	}
	y.low, y.high = decade(y.low, -1), decade(y.high, +1)
	return places
}

// line is a series as the template draws it.
type line struct {
	Series
	Path     string
	Whiskers []string
	Markers  []string
}

func (s Series) line(x, y axis) line {
	l := line{Series: s}
	for i, p := range s.Points {
		px, py := x.at(p.X), y.at(p.Figure.Median)
		l.Path += fmt.Sprintf("%s%g %g", map[bool]string{true: "M", false: "L"}[i == 0], px, py)
		l.Whiskers = append(l.Whiskers,
			fmt.Sprintf("M%g %gV%g", px, y.at(p.Figure.Low), y.at(p.Figure.High)))
		l.Markers = append(l.Markers, marker(s.Colour, px, py))
	}
	return l
}

func sortTicks(ticks []tick) {
	for i := range ticks { // few, and in no order
		for j := i; j > 0 && ticks[j].At < ticks[j-1].At; j-- {
			ticks[j], ticks[j-1] = ticks[j-1], ticks[j]
		}
	}
}

// decade returns the power of ten at or beyond v.
func decade(v float64, direction int) float64 {
	e := math.Log10(v)
	if direction < 0 {
		return math.Pow(10, math.Floor(e))
	}
	return math.Pow(10, math.Ceil(e))
}

// marker returns a circle, a square or a triangle.
func marker(colour int, x, y float64) string {
	switch colour {
	case 0:
		return fmt.Sprintf("M%g %ga4 4 0 1 0 8 0a4 4 0 1 0 -8 0", x-4, y)
	case 1:
		return fmt.Sprintf("M%g %gh7v7h-7z", x-3.5, y-3.5)
	}
	return fmt.Sprintf("M%g %gl4.5 8h-9z", x, y-5)
}

// Key returns the sample of a series for a legend.
func (s Series) Key() template.HTML {
	return render("key", struct {
		Series
		Width  float64
		Marker string
	}{s, 60 + 7.2*float64(len(s.Name)), marker(s.Colour, 23, 11)})
}

// Bar is a ratio with its interval.
type Bar struct {
	Label  string
	Colour int
	Figure measure.Figure
}

// Ratios is a chart of ratios. Its axis is logarithmic, so that half and twice
// are equally far from 1.
type Ratios struct {
	Title string
	Bars  []Bar
}

// bar is a bar as the template draws it.
type bar struct {
	Colour       int
	Label, Value label
	Bar, Whisker string
}

// ratios returns the ratios at which the axis has a line.
func (a axis) ratios() []float64 {
	all := []float64{0.5, 1, 2, 5, 10, 20}
	if a.high/a.low > 50 {
		all = []float64{0.001, 0.01, 0.1, 1, 10, 100, 1000, 10000}
	}
	return slices.DeleteFunc(all, func(v float64) bool { return v < a.low || v > a.high })
}

// Draw returns the chart as SVG.
func (r *Ratios) Draw() template.HTML {
	const width, left, right, top, step = 460.0, 176.0, 400.0, 32.0, 22.0
	bottom := top + step*float64(len(r.Bars)) + 4
	x := axis{0.5, 2, left, right}
	for _, b := range r.Bars {
		x.low, x.high = min(x.low, b.Figure.Low), max(x.high, b.Figure.High)
	}
	data := struct {
		Title                      string
		Width, Height, Top, Bottom float64
		XTicks                     []tick
		Bars                       []bar
	}{r.Title, width, bottom + 26, top, bottom, nil, nil}
	for _, v := range x.ratios() {
		class := "g"
		if v == 1 {
			class = "one"
		}
		data.XTicks = append(data.XTicks,
			tick{x.at(v), class, label{x.at(v), bottom + 16, fmt.Sprintf("%g×", v)}})
	}
	for i, b := range r.Bars {
		y := top + step*float64(i) + 4
		from, to := x.at(1), x.at(b.Figure.Median)
		if from > to {
			from, to = to, from
		}
		data.Bars = append(data.Bars, bar{
			b.Colour, label{left - 8, y + 12, b.Label},
			label{right + 8, y + 12, measure.Times(b.Figure.Median) + "×"},
			fmt.Sprintf("M%g %gH%gV%gH%gz", from, y, max(to, from+1), y+15, from),
			fmt.Sprintf("M%g %gH%gM%g %gV%gM%g %gV%g", x.at(b.Figure.Low), y+7.5,
				x.at(b.Figure.High),
				x.at(b.Figure.Low), y+3, y+12, x.at(b.Figure.High), y+3, y+12),
		})
	}
	return render("bars", data)
}
