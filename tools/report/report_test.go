package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What is committed is what its measurements make.
func TestReportIsUpToDate(t *testing.T) {
	files, err := generate("../..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what its measurements say: run make report (%v)", name, err)
		}
	}
}
