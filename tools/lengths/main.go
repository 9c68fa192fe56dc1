// Lengths fails if a function is too long to be read at a glance.
//
//	go -C tools run ./lengths [-most 45] ../ ...
//
// Lengths reads the Go and C files in the given folders and in all folders below
// them, also Go in files named .go.txt, but no tests and no folder testdata. It prints each
// function that has more lines than -most, and exits with status 1. The lines
// are those from the function's first line to its last brace. A comment before
// the function does not count.
//
// In C, a function's first brace stands alone at the beginning of a line, and so
// does its last one: .clang-format has it so.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// function is a function and the number of its lines.
type function struct {
	name  string
	line  int // the number of its first line
	lines int
}

func main() {
	most := flag.Int("most", 45, "how many lines a function may have")
	flag.Parse()
	long := 0
	for _, dir := range flag.Args() {
		n, err := check(dir, *most)
		if err != nil {
			fmt.Fprintln(os.Stderr, "lengths:", err)
			os.Exit(2)
		}
		long += n
	}
	if long > 0 {
		os.Exit(1)
	}
}

// check prints the functions below dir that have more than most lines, and
// returns how many there are.
func check(dir string, most int) (long int, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if isLeftOut(entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		functions, err := functionsOf(path)
		for _, f := range functions {
			if f.lines > most {
				fmt.Printf("%s:%d: %s has %d lines, may have %d\n", path, f.line, f.name, f.lines, most)
				long++
			}
		}
		return err
	})
	return long, err
}

// isLeftOut reports whether a folder has no source of ours.
func isLeftOut(name string) bool {
	return name == "testdata" || name == "out" || strings.HasPrefix(name, ".") && strings.Trim(name, ".") != ""
}

// functionsOf returns the functions of a file, if it is one of Go or C.
func functionsOf(path string) ([]function, error) {
	read := functionsOfC
	switch filepath.Ext(strings.TrimSuffix(path, ".txt")) { // internal/livepatch has Go in .go.txt
	case ".go":
		if strings.HasSuffix(path, "_test.go") {
			return nil, nil
		}
		read = functionsOfGo
	case ".c", ".h":
	default:
		return nil, nil
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	functions, err := read(source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return functions, nil
}

func functionsOfGo(source []byte) (functions []function, err error) {
	positions := token.NewFileSet()
	file, err := parser.ParseFile(positions, "", source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, declaration := range file.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		first := positions.PositionFor(f.Pos(), false).Line
		last := positions.PositionFor(f.End(), false).Line
		functions = append(functions, function{f.Name.Name, first, last - first + 1})
	}
	return functions, nil
}

// functionsOfC returns the functions of a file of C. A function's head is the
// lines before its first brace, up to the last one that is not indented.
func functionsOfC(source []byte) (functions []function, err error) {
	head, first := "", 0 // of the function that may begin
	inside := false
	for i, line := range bytes.Split(source, []byte("\n")) {
		text := strings.TrimRight(string(line), " \t")
		switch {
		case text == "{":
			inside = true
		case text == "}" && inside:
			functions = append(functions, function{nameOfC(head), first, i + 1 - first + 1})
			inside = false
		case !inside && text != "" && !strings.ContainsAny(text[:1], " \t#/*{}"):
			head, first = text, i+1
		}
	}
	if inside {
		return nil, fmt.Errorf("no end of %s, which begins at line %d", nameOfC(head), first)
	}
	return functions, nil
}

// nameOfC returns a function's name, which is the last word before the brace of
// its parameters.
func nameOfC(head string) string {
	name, _, _ := strings.Cut(head, "(")
	return name[strings.LastIndexAny(name, " *")+1:]
}
