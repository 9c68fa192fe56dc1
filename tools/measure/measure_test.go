package measure

import (
	"math"
	"strings"
	"testing"
)

func TestReadAndSummary(t *testing.T) {
	rows, err := Read(strings.NewReader(`
BenchmarkLife/impl=c/size=4096 1 100 map-ns 2 map-faults
BenchmarkLife/impl=go/size=4096 1 300 map-ns 2 map-faults
BenchmarkLife/impl=c/size=4096 1 200 map-ns 2 map-faults
BenchmarkLife/impl=go/size=4096 1 400 map-ns 2 map-faults
BenchmarkMove-2 10 5000 ns/op
`), "test")
	if err != nil || len(rows) != 3 {
		t.Fatal(rows, err)
	}
	c, goRow := Find(rows, "Life", "impl=c"), Find(rows, "Life", "impl=go", "size=4096")
	if f := Of(c.Values["map-ns"]); f.Median != 150 || f.Low != 100 || f.High != 200 || f.N != 2 {
		t.Error(f)
	}
	ratio, ok := Ratio(goRow.Values["map-ns"], c.Values["map-ns"])
	if !ok || math.Abs(ratio.Median-2.5) > 1e-9 {
		t.Error(ratio)
	}
	if f := Of(Find(rows, "Move").Values["ns/op"]); f.Median != 5000 {
		t.Error(f)
	}
	if Find(rows, "Life", "impl=rust") != nil {
		t.Error("found what is not there")
	}
}

func TestIntervalOfSixIsKnown(t *testing.T) {
	f := Of([]float64{6, 5, 4, 3, 2, 1})
	if f.Median != 3.5 || f.Low != 1 || f.High != 6 || f.Confidence < 0.95 {
		t.Error(f)
	}
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		Nanoseconds(12): "12.0 ns", Nanoseconds(1500): "1.50 µs", Nanoseconds(2.5e6): "2.50 ms",
		Nanoseconds(1.25e9): "1.25 s",
		Bytes(4096):         "4 KiB", Bytes(1 << 30): "1 GiB", Times(0.0035): "0.004",
		Times(16.53): "16.5",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
