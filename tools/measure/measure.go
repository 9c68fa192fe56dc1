// Package measure reads benchmark results. It computes the median of a sample,
// and the interval in which the true median lies with a confidence of 95 %.
package measure

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

// Row is a benchmark with all its measurements.
type Row struct {
	Name   string            // "Map"
	Labels map[string]string // of "/key=value" in its full name
	Values map[string][]float64
}

// Read reads results in Go's benchmark format. Results of the same full name
// are one row, in the order in which the names first appear.
func Read(r io.Reader, file string) ([]*Row, error) {
	var rows []*Row
	byName := map[string]*Row{}
	reader := benchfmt.NewReader(r, file)
	for reader.Scan() {
		switch rec := reader.Result().(type) {
		case *benchfmt.Result:
			name := rec.Name.String()
			row := byName[name]
			if row == nil {
				row = newRow(rec.Name)
				byName[name] = row
				rows = append(rows, row)
			}
			for _, v := range rec.Values {
				value, unit := v.Value, v.Unit
				if v.OrigUnit != "" { // the reader makes seconds of ns
					value, unit = v.OrigValue, v.OrigUnit
				}
				row.Values[unit] = append(row.Values[unit], value)
			}
		case *benchfmt.SyntaxError:
			return nil, rec
		}
	}
	return rows, reader.Err()
}

func newRow(name benchfmt.Name) *Row {
	base, parts := name.Parts()
	row := &Row{string(base), map[string]string{}, map[string][]float64{}}
	for _, p := range parts {
		if key, value, ok := strings.Cut(strings.TrimPrefix(string(p), "/"), "="); ok {
			row.Labels[key] = value
		}
	}
	return row
}

// Find returns the row that has a name and the given labels, each "key=value",
// or nil.
func Find(rows []*Row, name string, labels ...string) *Row {
	for _, row := range rows {
		if row.Name == name && !slices.ContainsFunc(labels, func(l string) bool {
			key, value, _ := strings.Cut(l, "=")
			return row.Labels[key] != value
		}) {
			return row
		}
	}
	return nil
}

// Figure is the median of a sample, with the interval of 95 % confidence. If
// the sample is too small for that, the interval goes from the least value to
// the greatest, and Confidence is less.
type Figure struct {
	Median     float64 `json:"median"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	N          int     `json:"n"`
	Confidence float64 `json:"confidence"`
}

// Of returns the figure of a sample. The sample must not be empty.
func Of(values []float64) Figure {
	values = slices.Clone(values)
	slices.Sort(values)
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds),
		0.95)
	f := Figure{s.Center, s.Lo, s.Hi, len(values), s.Confidence}
	if math.IsInf(f.Low, 0) || math.IsInf(f.High, 0) {
		f.Low, f.High = values[0], values[len(values)-1]
		// The chance that a median lies within the range of n values.
		f.Confidence = 1 - math.Pow(0.5, float64(len(values)-1))
	}
	return f
}

// Ratio returns the figure of a's values divided by b's, pair by pair. The
// values of a pair were measured one after the other, on a machine in the same
// state.
func Ratio(a, b []float64) (Figure, bool) {
	n := min(len(a), len(b))
	if n == 0 {
		return Figure{}, false
	}
	ratios := make([]float64, n)
	for i := range ratios {
		if b[i] == 0 {
			return Figure{}, false
		}
		ratios[i] = a[i] / b[i]
	}
	return Of(ratios), true
}

// Nanoseconds writes a duration with three digits and a unit.
func Nanoseconds(ns float64) string {
	for _, u := range []struct {
		unit string
		size float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= u.size {
			return digits(ns/u.size) + " " + u.unit
		}
	}
	return digits(ns) + " ns"
}

// Times writes a ratio with two or three digits.
func Times(ratio float64) string { return digits(ratio) }

// Round writes a round duration, as of an axis: 10 µs.
func Round(ns float64) string {
	for _, u := range []struct {
		unit string
		size float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= u.size*0.999 {
			return fmt.Sprintf("%.0f %s", ns/u.size, u.unit)
		}
	}
	return fmt.Sprintf("%.0f ns", ns)
}

func digits(x float64) string {
	switch {
	case x >= 99.5:
		return fmt.Sprintf("%.0f", x)
	case x >= 9.95:
		return fmt.Sprintf("%.1f", x)
	case x >= 0.0995:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

// Bytes writes a size that is a power of two, as 64 KiB.
func Bytes(n int) string {
	for _, u := range []struct {
		unit string
		size int
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%d %s", n/u.size, u.unit)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
