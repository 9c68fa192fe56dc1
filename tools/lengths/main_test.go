package main

import (
	"slices"
	"strings"
	"testing"
)

func TestFunctionsOfGo(t *testing.T) {
	functions, err := functionsOfGo([]byte(`package p

// f has a comment, which does not count.
func f() { g() }

func (t T) g(
	n int,
) {
	f()
}
`))
	if want := []function{{"f", 4, 1}, {"g", 6, 5}}; err != nil || !slices.Equal(functions, want) {
		t.Errorf("got %v, %v, want %v", functions, err, want)
	}
}

func TestFunctionsOfC(t *testing.T) {
	functions, err := functionsOfC([]byte(`struct s {
	int n;
};

static const int table[] = {
	1,
};

int declared(void);

/* A comment. */
static char *f(int n,
	int m)
{
	if (n) {
		return 0;
	}
}

int g(void)
{
}
`))
	if want := []function{{"f", 12, 7}, {"g", 20, 3}}; err != nil || !slices.Equal(functions, want) {
		t.Errorf("got %v, %v, want %v", functions, err, want)
	}
}

func TestFunctionOfCWithoutAnEnd(t *testing.T) {
	_, err := functionsOfC([]byte("int f(void)\n{\n\treturn 0;\n"))
	if err == nil || !strings.Contains(err.Error(), "no end of f") {
		t.Error(err)
	}
}
