//go:build linux

package parity_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"forkshm.example/shm/internal/testenv"
	"forkshm.example/shm/parity"
)

// recorder is a test that notes what is reported to it.
type recorder struct {
	*testing.T
	errors []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

var builds = []struct {
	name string
	def  []string // of the C program
	tags string   // of the Go program
}{
	{"MAP_ANONYMOUS", []string{"-DUSE_MAP_ANON"}, ""},
	{"dev_zero", nil, "devzero"},
}

func TestListingIsAPort(t *testing.T) {
	testenv.NeedTime(t)
	for _, b := range builds {
		t.Run(b.name, func(t *testing.T) {
			c := parity.CompileC(t, append(b.def, "../csrc/anon_mmap.c")...)
			g := parity.BuildGo(t, "../cmd/anon_mmap", "-tags", b.tags)
			parity.SameOutput(t, c, g)
			parity.SameMaps(t, c, g)
			parity.SameSyscalls(t, c, g)
		})
	}
}

// A port that has a wrong flag is found, and the report shows where.
func TestDifferencesAreFound(t *testing.T) {
	testenv.NeedTime(t)
	source, err := os.ReadFile("../csrc/anon_mmap.c")
	assert.NoError(t, err)
	g := parity.BuildGo(t, "../cmd/anon_mmap")
	for name, wrong := range map[string]struct {
		old, new string
		compare  func(t parity.T, c, g parity.Program, opts ...parity.Option)
		shows    string
	}{
		"flag": {"MAP_SHARED | MAP_ANONYMOUS", "MAP_SHARED | MAP_NORESERVE | MAP_ANONYMOUS",
			parity.SameSyscalls, "MAP_NORESERVE"},
		"length": {"mmap(NULL, sizeof(int)", "mmap(NULL, 8192", parity.SameMaps, "8192 bytes"},
		"output": {"Child started", "A child started", parity.SameOutput, "A child started"},
		"status": {"exit(EXIT_SUCCESS);\n}", "exit(3);\n}", parity.SameOutput, "exit status 3"},
		"options": {"waitpid(child, &status, 0)", "waitpid(child, &status, WUNTRACED)",
			parity.SameSyscalls, "WSTOPPED"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.ReplaceAll(string(source), wrong.old, wrong.new)
			assert.NotEqual(t, string(source), changed)
			file := filepath.Join(t.TempDir(), "wrong.c")
			assert.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
			c := parity.CompileC(t, "-DUSE_MAP_ANON", file)
			r := &recorder{T: t}
			wrong.compare(r, c, g)
			if assert.Len(t, r.errors, 1) {
				assert.Contains(t, r.errors[0], wrong.shows)
				assert.Contains(t, r.errors[0], "<-- the first difference")
			}
		})
	}
}

type comparison func(t parity.T, c, g parity.Program, opts ...parity.Option)

// A comparison of nothing is no comparison.
func TestNothingToCompareIsAnError(t *testing.T) {
	same := parity.Program{Path: "/bin/true", Name: "true"}
	for _, compare := range []comparison{parity.SameSyscalls, parity.SameMaps} {
		r := &recorder{T: t}
		compare(r, same, same)
		if assert.Len(t, r.errors, 1) {
			assert.Contains(t, r.errors[0], "neither program")
		}
	}
}

// A program that ends by a signal, and one that has private memory.
func TestPrivateMemoryAndSignals(t *testing.T) {
	testenv.NeedTime(t)
	file := filepath.Join(t.TempDir(), "grow.c")
	assert.NoError(t, os.WriteFile(file, []byte(`
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

int main(void)
{
	char *p = mmap(NULL, 81920, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	p = mremap(p, 81920, FACTOR * 81920, MREMAP_MAYMOVE, NULL);
	p[100000] = 1;
	mprotect(p + 4096, 4096, PROT_READ);
	abort();
}`), 0o600))
	one := parity.CompileC(t, "-DFACTOR=2", file)
	two := parity.CompileC(t, "-DFACTOR=3", file)
	for name, compare := range map[string]comparison{
		"output": parity.SameOutput, "syscalls": parity.SameSyscalls, "maps": parity.SameMaps,
	} {
		private := parity.Lengths(81920, 2*81920-8192, 3*81920-8192)
		same, differ := &recorder{T: t}, &recorder{T: t}
		compare(same, one, one, private)
		assert.Empty(t, same.errors, name)
		compare(differ, one, two, private)
		if name == "output" {
			assert.Empty(t, differ.errors, name)
		} else if assert.Len(t, differ.errors, 1, name) {
			t.Log(differ.errors[0])
		}
	}
}

func TestDifferentInputsAreGiven(t *testing.T) {
	testenv.NeedTime(t)
	file := filepath.Join(t.TempDir(), "cat.c")
	assert.NoError(t, os.WriteFile(file, []byte(`
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
	int c;

	while ((c = getchar()) != EOF)
		putchar(c);
	printf("%d %s %s", argc, argv[1], getenv("PARITY"));
	return 7;
}`), 0o600))
	c := parity.CompileC(t, file)
	r := &recorder{T: t}
	parity.SameOutput(r, c, parity.Program{Path: "/bin/true", Name: "true"},
		parity.Args("an argument"), parity.Stdin(strings.NewReader("some input\n")),
		parity.Env("PARITY=set"))
	if assert.Len(t, r.errors, 1) {
		assert.Contains(t, r.errors[0], "- stdout: some input")
		assert.Contains(t, r.errors[0], "- stdout: 2 an argument set (no newline)")
		assert.Contains(t, r.errors[0], "- end: exit status 7")
		assert.Contains(t, r.errors[0], "+ end: exit status 0")
	}
}
