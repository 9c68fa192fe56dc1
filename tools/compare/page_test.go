package main

import (
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"forkshm.example/shm/tools/costs"
	"forkshm.example/shm/tools/measure"
)

// sample is a report that has each kind of row.
func sample() *report {
	r := &report{Date: "2026-01-02", Machine: machineNow(),
		Skipped: []string{"Rust: it needs cargo"}}
	r.Behaviour = []behaviour{
		{"grows by mremap", map[string]string{}, map[string]string{}},
		{"maps in a chroot without /dev", map[string]string{}, map[string]string{}},
	}
	for _, sharing := range costs.Sharings {
		for i, t := range costs.Techniques {
			kind := t + " " + sharing
			r.Behaviour[0].Cells[kind] = map[string]string{"memfd": "yes"}[t]
			r.Behaviour[1].Cells[kind] = map[string]string{"devzero": "ENOENT", "anonymous": "yes",
				"memfd": "yes"}[t]
			for _, bytes := range []int{4 << 10, 1 << 30} {
				for _, s := range costs.Steps {
					f := measure.Of([]float64{float64(1000 * (i + 1)), float64(1500 * (i + 1)),
						float64(bytes)})
					r.Costs = append(r.Costs,
						costs.Cost{Step: s.Name, Technique: t, Sharing: sharing, Bytes: bytes,
							Ours: f, InC: f, Ratio: &f})
				}
			}
		}
	}
	r.Peers = []peer{{"C, by the calls",
		map[string]measure.Figure{"map": measure.Of([]float64{1000})}, "copies", "the signal"}}
	r.Syscalls = []syscalls{{"anonymous", []string{"mmap(NULL, 4096) = REGION"},
		[]string{"mmap(NULL, 4096) = REGION"}}}
	r.Advice = r.advise()
	return r
}

// The page needs no other file, and runs no script.
func TestPageStandsAlone(t *testing.T) {
	page, err := sample().html()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), `xmlns="http://www.w3.org/2000/svg"`, "")
	if found := regexp.MustCompile(`(?i)<script|src=|href=|url\(|@import|https?://`).FindString(text); found != "" {
		t.Errorf("the page has %q", found)
	}
	for _, want := range []string{"grows by mremap", "maps in a chroot without /dev",
		"Not compared: Rust", "the parent&#39;s pause", "prefers-color-scheme:dark"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if got := len(sample().Advice); got != 5 {
		t.Errorf("%d sentences of advice", got)
	}
}

// A cell in which C and the library differ is named.
func TestWrongCellIsNamed(t *testing.T) {
	r := sample()
	r.Behaviour[0].InC["memfd shared"] = "SIGBUS"
	got := strings.Join(r.differences(), "\n")
	if want := `"grows by mremap" of shared memfd memory is "SIGBUS" in C, "yes" by the library`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// If Chromium is installed, the page renders at the width of a desktop's screen
// and of a phone's.
func TestPageRenders(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here: the page is not rendered")
	}
	page, err := sample().html()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "index.html")
	if err := os.WriteFile(file, page, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, size := range []string{"1400,1000", "390,1000"} {
		shot := filepath.Join(dir, size+".png")
		out, err := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu",
			"--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
			"--window-size="+size, "--screenshot="+shot, "file://"+file).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		f, err := os.Open(shot)
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		colours := map[string]bool{}
		for y := 0; y < picture.Bounds().Dy(); y += 5 {
			for x := 0; x < picture.Bounds().Dx(); x += 5 {
				r, g, b, _ := picture.At(x, y).RGBA()
				colours[string([]byte{byte(r >> 8), byte(g >> 8), byte(b >> 8)})] = true
			}
		}
		if len(colours) < 5 {
			t.Errorf("%s: %d colours: an empty page", size, len(colours))
		}
	}
}
